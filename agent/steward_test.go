package agent

import (
	"context"
	"testing"
	"time"

	"qosctl/qos"
)

// deaf is a framework that never answers a look.
type deaf struct{ *fakePort }

func (deaf) Look(ctx context.Context, _ qos.Spec) (sight, error) {
	<-ctx.Done()
	return sight{}, ctx.Err()
}

// A framework that does not answer does not keep the jobs of the other one from being started.
func TestOneDeafFramework(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.end()
	a, err := New(Options{Config: n.cfg, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	good := newFakePort()
	a.ports = map[qos.Framework]port{qos.Marathon: deaf{n.port}, qos.Chronos: good}
	a.poll = 100 * time.Millisecond
	ready := make(chan struct{})
	a.ready = func() { close(ready) }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	defer func() { cancel(); <-done }()
	<-ready
	n.agent = a
	n.submit(idA, sleeper)
	n.submit(idB, `{"name":"s","command":"true","schedule":"R3//PT1M","cpus":0.2,"mem":32,"qos":{"duration":1,"desv_deadline":0.2,"deadline":60}}`)
	comes(t, "the Chronos job is started", func() bool {
		good.mu.Lock()
		defer good.mu.Unlock()
		return good.starts > 0
	})
}
