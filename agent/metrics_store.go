package agent

import "github.com/prometheus/client_golang/prometheus"

// storeCollector shows how the agent's store is.
type storeCollector struct {
	agent         *Agent
	bytes, broken *prometheus.Desc
}

func newStoreCollector(a *Agent) *storeCollector {
	return &storeCollector{
		agent:  a,
		bytes:  prometheus.NewDesc("qosctl_store_bytes", "Size of the agent's store.", nil, nil),
		broken: prometheus.NewDesc("qosctl_store_failing", "1 while the store can't be written.", nil, nil),
	}
}

// Describe names the metrics.
func (c *storeCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.bytes
	ch <- c.broken
}

// Collect shows the present figures.
func (c *storeCollector) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(c.broken, prometheus.GaugeValue, truth(c.agent.full.Load()))
	if s := c.agent.store; s != nil {
		ch <- prometheus.MustNewConstMetric(c.bytes, prometheus.GaugeValue, float64(s.size()))
	}
}
