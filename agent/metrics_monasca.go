package agent

import (
	"github.com/prometheus/client_golang/prometheus"

	"qosctl/monasca"
)

// monascaCollector shows how sending to Monasca goes.
type monascaCollector struct {
	stats func() monasca.Stats

	up, queued, spooled, bytes, oldest, sent, resent, dropped, requests, tokens *prometheus.Desc
}

func newMonascaCollector(stats func() monasca.Stats) *monascaCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("qosctl_monasca_"+name, help, labels, nil)
	}
	return &monascaCollector{
		stats:    stats,
		up:       desc("state", "1 for the state that sending to Monasca is in.", "state"),
		queued:   desc("queued_measurements", "Measurements that are not in the spool yet."),
		spooled:  desc("spooled_measurements", "Measurements in the spool."),
		bytes:    desc("spool_bytes", "Size of the spool's files."),
		oldest:   desc("spool_oldest_timestamp_seconds", "Time of the oldest measurement in the spool; 0 if it is empty."),
		sent:     desc("sent_measurements_total", "Measurements that Monasca took."),
		resent:   desc("resent_measurements_total", "Measurements that were sent again after their answer was lost."),
		dropped:  desc("dropped_measurements_total", "Measurements that Monasca did not get, by reason.", "reason"),
		requests: desc("requests_total", "Batches that were sent, in vain or not."),
		tokens:   desc("tokens_total", "Tokens that Keystone gave."),
	}
}

// Describe names the metrics.
func (c *monascaCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.up, c.queued, c.spooled, c.bytes, c.oldest, c.sent, c.resent, c.dropped, c.requests, c.tokens} {
		ch <- d
	}
}

// Collect shows the present figures.
func (c *monascaCollector) Collect(ch chan<- prometheus.Metric) {
	v := c.stats()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	total := func(d *prometheus.Desc, n int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	for _, s := range monasca.States() {
		gauge(c.up, truth(s == v.State), string(s))
	}
	gauge(c.queued, float64(v.Queued))
	gauge(c.spooled, float64(v.Spooled))
	gauge(c.bytes, float64(v.SpoolBytes))
	gauge(c.oldest, epoch(v.Oldest))
	total(c.sent, v.Sent)
	total(c.resent, v.Resent)
	for _, why := range monasca.Reasons() {
		total(c.dropped, v.Dropped[why], string(why))
	}
	total(c.requests, v.Requests)
	total(c.tokens, v.Tokens)
}
