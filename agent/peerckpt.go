package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"

	"golang.org/x/time/rate"

	"qosctl/agent/peer"
	"qosctl/ckpt"
)

// Checkpoints between agents. Nothing here knows the agent: what it needs are a keeper and the peers' transport.

// maxSent bounds the checkpoints that are sent at once. Who comes too late asks again.
const maxSent = 4

// checkpointPath is the route of one checkpoint.
const checkpointPath = "/peer/v1/checkpoints/"

// giver is what a server of checkpoints asks of a keeper.
type giver interface {
	Describe(ctx context.Context, r ckpt.Ref) (m ckpt.Manifest, digest string, err error)
	Send(ctx context.Context, r ckpt.Ref, w io.Writer, o ckpt.SendOptions) error
}

// taker is what a client of checkpoints asks of a keeper.
type taker interface {
	Fetch(ctx context.Context, o ckpt.FetchOptions) (ckpt.Fetched, error)
}

// checkpointServer gives a node's checkpoints to its peers.
type checkpointServer struct {
	keeper giver
	rate   *rate.Limiter // of all that is sent; nil: none
	log    *slog.Logger
}

// routes are to be served by a peer.Server.
func (s checkpointServer) routes() http.Handler {
	mux, sent := http.NewServeMux(), make(chan struct{}, maxSent)
	mux.HandleFunc("GET "+checkpointPath+"{job}/{sequence}/stream", func(w http.ResponseWriter, r *http.Request) {
		select {
		case sent <- struct{}{}:
			defer func() { <-sent }()
			s.stream(w, r)
		default:
			peer.Fail(w, http.StatusServiceUnavailable, codeConflict, fmt.Sprintf("%d checkpoints are being sent: ask again", maxSent))
		}
	})
	return mux
}

// stream sends a checkpoint. What breaks on the way ends the connection, so that nobody takes it for the end.
func (s checkpointServer) stream(w http.ResponseWriter, r *http.Request) {
	ref, err := refOf(r)
	var at ckpt.Position
	if err == nil {
		at, err = positionOf(r.URL.Query())
	}
	if err == nil {
		_, _, err = s.keeper.Describe(r.Context(), ref)
	}
	if err != nil {
		failCheckpoint(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	out := &countedWriter{w: w}
	if err := s.keeper.Send(r.Context(), ref, out, ckpt.SendOptions{From: at, Rate: s.rate}); err != nil {
		if out.n == 0 {
			failCheckpoint(w, err)
			return
		}
		s.log.Warn("a checkpoint was not sent whole", "checkpoint", ref.String(), "node", peer.Caller(r.Context()), "bytes", out.n, "err", err)
		panic(http.ErrAbortHandler)
	}
	s.log.Debug("checkpoint sent", "checkpoint", ref.String(), "node", peer.Caller(r.Context()), "bytes", out.n)
}

// countedWriter counts what is written.
type countedWriter struct {
	w io.Writer
	n int64
}

// Write writes.
func (c *countedWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// refOf reads a checkpoint's name from a request's path; the store checks it.
func refOf(r *http.Request) (ckpt.Ref, error) {
	n, err := strconv.Atoi(r.PathValue("sequence"))
	if err != nil {
		return ckpt.Ref{}, fmt.Errorf("sequence: %w", ckpt.ErrNone)
	}
	return ckpt.Ref{Job: r.PathValue("job"), Sequence: n}, nil
}

// positionOf reads where a stream is to begin; nothing means its begin.
func positionOf(q url.Values) (at ckpt.Position, err error) {
	if v := q.Get("file"); v != "" {
		if at.File, err = strconv.Atoi(v); err != nil {
			return at, fmt.Errorf("file: %w", ckpt.ErrNone)
		}
	}
	if v := q.Get("offset"); v != "" {
		if at.Offset, err = strconv.ParseInt(v, 10, 64); err != nil {
			return at, fmt.Errorf("offset: %w", ckpt.ErrNone)
		}
	}
	return at, nil
}

// Codes by which a keeper's errors go from node to node.
const codeDamaged = "damaged"

func failCheckpoint(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, ckpt.ErrNone):
		peer.Fail(w, http.StatusNotFound, codeNotFound, err.Error())
	case errors.Is(err, ckpt.ErrBusy):
		peer.Fail(w, http.StatusConflict, codeConflict, err.Error())
	case errors.Is(err, ckpt.ErrDamaged):
		peer.Fail(w, http.StatusInternalServerError, codeDamaged, err.Error())
	default:
		peer.Fail(w, http.StatusInternalServerError, codeInternal, err.Error())
	}
}

// checkpointError makes of a peer's answer what its keeper has said.
func checkpointError(err error) error {
	s, ok := errors.AsType[*peer.StatusError](err)
	switch {
	case ok && s.Code == codeNotFound:
		return fmt.Errorf("%w: %w", ckpt.ErrNone, err)
	case ok && s.Code == codeDamaged:
		return fmt.Errorf("%w: %w", ckpt.ErrDamaged, err)
	case ok && s.Code == codeConflict:
		return fmt.Errorf("%w: %w", ckpt.ErrBusy, err)
	}
	return err
}

// checkpointClient gets checkpoints from peers.
type checkpointClient struct {
	keeper   taker
	client   peerCaller
	rate     *rate.Limiter // of all that is fetched; nil: none
	maxBytes int64         // of one checkpoint; 0: what the disk and the limit of all have
}

// fetchCheckpoint gets a checkpoint from a node. The digest is of the manifest, from the job's row.
func (c checkpointClient) fetchCheckpoint(ctx context.Context, from peer.Target, r ckpt.Ref, digest string) (ckpt.Fetched, error) {
	return c.keeper.Fetch(ctx, ckpt.FetchOptions{
		Job: r.Job, Sequence: r.Sequence, Digest: digest, MaxBytes: c.maxBytes, Rate: c.rate,
		Open: func(ctx context.Context, at ckpt.Position) (io.ReadCloser, error) {
			path := fmt.Sprintf("%s/stream?file=%d&offset=%d", checkpointURL(r), at.File, at.Offset)
			response, err := c.client.Do(ctx, from, http.MethodGet, path, nil)
			if err != nil {
				return nil, checkpointError(err)
			}
			return response.Body, nil
		},
	})
}

func checkpointURL(r ckpt.Ref) string {
	return checkpointPath + url.PathEscape(r.Job) + "/" + strconv.Itoa(r.Sequence)
}
