package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qosctl/gossip"
)

// meshMetric is one figure of the table that the agents share.
type meshMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(gossip.Stats) float64
}

// meshCollector shows the figures of gossip.
type meshCollector struct {
	stats func() gossip.Stats
	list  []meshMetric
}

func newMeshCollector(stats func() gossip.Stats) *meshCollector {
	c := &meshCollector{stats: stats}
	add := func(name, help string, kind prometheus.ValueType, value func(gossip.Stats) float64) {
		c.list = append(c.list, meshMetric{prometheus.NewDesc("qosctl_gossip_"+name, help, nil, nil), kind, value})
	}
	gauge, total := prometheus.GaugeValue, prometheus.CounterValue
	add("members_alive", "Nodes that answer, this one among them.", gauge, func(s gossip.Stats) float64 { return float64(s.Alive) })
	add("members_known", "Nodes that are remembered.", gauge, func(s gossip.Stats) float64 { return float64(s.Known) })
	add("settled", "1 if this node has heard its peers.", gauge, func(s gossip.Stats) float64 { return truth(s.Settled) })
	add("quorate", "1 if this node sees at least half of those that it knew.", gauge, func(s gossip.Stats) float64 { return truth(s.Quorate) })
	add("alone", "1 if this node sees nobody, though it knows others.", gauge, func(s gossip.Stats) float64 { return truth(s.Alone) })
	add("health_score", "memberlist's score of this node: 0 is well.", gauge, func(s gossip.Stats) float64 { return float64(s.Health) })
	add("jobs", "Jobs in the table.", gauge, func(s gossip.Stats) float64 { return float64(s.Jobs) })
	add("news", "Jobs of which more is known by broadcast than by row.", gauge, func(s gossip.Stats) float64 { return float64(s.News) })
	add("queued_broadcasts", "Broadcasts that wait.", gauge, func(s gossip.Stats) float64 { return float64(s.Queued) })
	add("tombstones", "Jobs that were removed, and are remembered so that they do not come back.", gauge, func(s gossip.Stats) float64 { return float64(s.Tombstones) })
	add("marks", "Holds and drains in the table.", gauge, func(s gossip.Stats) float64 { return float64(s.Marks) })
	add("messages_sent_total", "Messages to peers: broadcasts, once for each peer, and accounts.", total, func(s gossip.Stats) float64 { return float64(s.Sent) })
	add("messages_received_total", "Messages of peers that were taken in.", total, func(s gossip.Stats) float64 { return float64(s.Heard) })
	add("refused_nodes_total", "Nodes that were kept out.", total, func(s gossip.Stats) float64 { return float64(s.Refused) })
	add("dropped_total", "Broadcasts beyond the rate, left to anti-entropy.", total, func(s gossip.Stats) float64 { return float64(s.Dropped) })
	add("overflow_total", "Messages that came faster than they were taken in.", total, func(s gossip.Stats) float64 { return float64(s.Overflow) })
	add("malformed_total", "Messages that were refused.", total, func(s gossip.Stats) float64 { return float64(s.Malformed) })
	add("strangers_total", "Packets and streams of somebody without a key, or of another cluster.", total, func(s gossip.Stats) float64 { return float64(s.Strangers) })
	add("name_conflicts_total", "Nodes that had the name of another.", total, func(s gossip.Stats) float64 { return float64(s.Conflicts) })
	add("exchanges_total", "Comparisons of the table with a peer's.", total, func(s gossip.Stats) float64 { return float64(s.Exchanges) })
	add("exchanges_failed_total", "Comparisons that were not brought to their end.", total, func(s gossip.Stats) float64 { return float64(s.Failed) })
	add("rows_learned_total", "Rows taken from peers.", total, func(s gossip.Stats) float64 { return float64(s.Learned) })
	add("rows_rejected_total", "Rows of peers that this node could not take: its log names them.", total, func(s gossip.Stats) float64 { return float64(s.Rejected) })
	add("rows_given_total", "Rows given to peers.", total, func(s gossip.Stats) float64 { return float64(s.Given) })
	return c
}

// Describe names the metrics.
func (c *meshCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.list {
		ch <- m.desc
	}
}

// Collect reads all figures at once.
func (c *meshCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.stats()
	for _, m := range c.list {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(s))
	}
}

// skewCollector shows how far the clocks of the cluster are apart.
type skewCollector struct {
	skews *skews
	desc  *prometheus.Desc
}

func newSkewCollector(s *skews) *skewCollector {
	return &skewCollector{s, prometheus.NewDesc("qosctl_clock_skew_seconds", "How far the clock of another node is before this one's: the greatest difference seen in the last ten minutes.", nil, nil)}
}

// Describe names the metric.
func (c *skewCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect shows it, if anything was measured.
func (c *skewCollector) Collect(ch chan<- prometheus.Metric) {
	if w, ok := c.skews.worst(time.Now()); ok {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, w.Seconds())
	}
}
