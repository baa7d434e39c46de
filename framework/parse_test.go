package framework

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"qosctl/qos"
)

type frame struct{ Event, Data string }

// frames reads a stream to its end.
func frames(r io.Reader) ([]frame, error) {
	var out []frame
	s := NewSSE(r)
	for {
		event, data, err := s.Next()
		if err != nil {
			return out, err
		}
		out = append(out, frame{event, string(data)})
	}
}

func TestSSE(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, stream string
		want         []frame
	}{
		{"lf", "event: a\ndata: 1\n\ndata:2\n\n", []frame{{"a", "1"}, {"message", "2"}}},
		{"cr lf", "event: a\r\ndata: 1\r\ndata: 2\r\n\r\nevent: b\r\ndata: 3\r\n\r\n", []frame{{"a", "1\n2"}, {"b", "3"}}},
		{"cr", "event: a\rdata: 1\r\rdata: 2\r\r", []frame{{"a", "1"}, {"message", "2"}}},
		{"comments, ids, unknown fields", ": hi\nid: 7\nretry: 1\nfoo\ndata: 1\n\n", []frame{{"message", "1"}}},
		{"heartbeats", "\r\n\r\n\ndata: 1\n\n\r\n", []frame{{"message", "1"}}},
		{"no data", "event: a\n\ndata: 1\n\n", []frame{{"message", "1"}}},
		{"empty data", "data\n\ndata:\n\n", []frame{{"message", ""}, {"message", ""}}},
		{"cut off", "data: 1\n\nevent: a\ndata: 2\n", []frame{{"message", "1"}}},
		{"two spaces", "data:  1\n\n", []frame{{"message", " 1"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, r := range []io.Reader{strings.NewReader(tt.stream), iotest.OneByteReader(strings.NewReader(tt.stream))} {
				got, err := frames(r)
				if !errors.Is(err, io.EOF) {
					t.Errorf("error %v", err)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
		})
	}
	if _, err := frames(strings.NewReader("data: " + strings.Repeat("x", maxEvent+1))); !errors.Is(err, ErrEventTooLong) {
		t.Errorf("error %v for a line without end", err)
	}
	if _, err := frames(strings.NewReader(strings.Repeat("data: "+strings.Repeat("x", 1<<20)+"\n", 5))); !errors.Is(err, ErrEventTooLong) {
		t.Errorf("error %v for an event without end", err)
	}
}

func FuzzSSE(f *testing.F) {
	f.Add([]byte("event: a\r\ndata: 1\r\ndata: 2\r\n\r\n"))
	f.Add([]byte(": c\rdata\r\r\n\n"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		whole, _ := frames(bytes.NewReader(stream))
		bytewise, _ := frames(iotest.OneByteReader(bytes.NewReader(stream)))
		if diff := cmp.Diff(whole, bytewise); diff != "" {
			t.Errorf("what is read depends on how it arrives:\n%s", diff)
		}
	})
}

func FuzzParseError(f *testing.F) {
	f.Add(409, "application/json", []byte(`{"message":"App is locked","deployments":[{"id":"d"}]}`))
	f.Add(422, "application/json", []byte(`{"message":"x","details":[{"path":"/a","errors":["b"]}]}`))
	f.Add(400, "application/json", []byte(`{"message":"java.lang.X: y\n\tat z","status":"Bad Request"}`))
	f.Add(500, "text/html", []byte(`<html><body>oops`))
	f.Add(404, "", []byte("\xff\xfe\x00"))
	f.Fuzz(func(t *testing.T, status int, contentType string, body []byte) {
		e := parseError(status, contentType, body)
		if e.Kind == nil {
			t.Error("no sentinel")
		}
		text := e.Error()
		if !utf8.ValidString(text) || strings.ContainsAny(text, "\n\r\x00\x1b") {
			t.Errorf("error %q is not fit to be printed", text)
		}
		if len(e.Body) > 2*maxExcerpt || len(e.Message) > 2*maxExcerpt {
			t.Errorf("excerpts of %d and %d bytes", len(e.Body), len(e.Message))
		}
	})
}

func TestSpecTravels(t *testing.T) {
	t.Parallel()
	spec := qos.Spec{ID: "1b4e28ba-2fa1-41d2-883f-0016d3cca427", Name: "/a", Framework: qos.Marathon, CPUs: 0.5, Source: []byte(`{"id":"/a"}`)}
	text, err := EncodeSpec(spec)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeSpec(text)
	spec.Source = nil
	if diff := cmp.Diff(spec, got); err != nil || diff != "" {
		t.Fatalf("error %v (-want +got):\n%s", err, diff)
	}
	for _, bad := range []string{"", "!", "aGVsbG8=", text[:len(text)/2], strings.Repeat("A", MaxSpec+1)} {
		if _, err := DecodeSpec(bad); err == nil {
			t.Errorf("%.20q is taken for a spec", bad)
		}
	}
}

func FuzzDecodeSpec(f *testing.F) {
	text, err := EncodeSpec(qos.Spec{ID: "x", Name: "/a"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add("H4sIAAAAAAAA/wAAAP//AQAAAP//AAAAAAAAAAA=")
	f.Fuzz(func(_ *testing.T, text string) { _, _ = DecodeSpec(text) })
}

func TestLoadCredentials(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, file string
		want       Endpoint
		err        string
	}{
		{"of the thesis", `{"url":"http://10.0.0.1:8080","user":"me","password":"hush"}`, Endpoint{URLs: []string{"http://10.0.0.1:8080"}, Username: "me", Password: "hush"}, ""},
		{"without a scheme", `{"url":"10.0.0.1:8080/","user":"","password":""}`, Endpoint{URLs: []string{"http://10.0.0.1:8080/"}}, ""},
		{"without a user", `{"url":"http://h:1"}`, Endpoint{URLs: []string{"http://h:1"}}, ""},
		{"no JSON", `hush`, Endpoint{}, "not JSON of the form"},
		{"no url", `{"user":"me","password":"hush"}`, Endpoint{}, `"url" is missing`},
		{"credentials in the url", `{"url":"http://me:hush@h:1"}`, Endpoint{}, "carries credentials"},
		{"a url of another kind", `{"url":"ftp://h"}`, Endpoint{}, "http:// or https://"},
		{"a large file", strings.Repeat(" ", maxSecretFile+1), Endpoint{}, "larger than 64 KiB"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "credentials.json")
			if err := os.WriteFile(path, []byte(tt.file), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := LoadCredentials(path)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "hush") {
					t.Fatalf("error %v, want one with %q and without secrets", err, tt.err)
				}
				return
			}
			if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
				t.Fatalf("error %v (-want +got):\n%s", err, diff)
			}
			var log bytes.Buffer
			slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "endpoint", got, "password", got.Password)
			data, err := json.Marshal(got)
			if shown := fmt.Sprintf("%v %+v %#v %s %s %v", got, got, got, data, log.String(), err); strings.Contains(shown, "hush") {
				t.Errorf("the password is shown: %s", shown)
			}
		})
	}
	if _, err := LoadCredentials(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v for a file that is not there", err)
	}
}

func FuzzLoadCredentials(f *testing.F) {
	f.Add([]byte(`{"url":"http://h:1","user":"u","password":"p"}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(dir, "c.json")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Skip(err)
		}
		if e, err := LoadCredentials(path); err == nil {
			if _, err := NewClient(ClientOptions{Endpoint: e}); err != nil {
				t.Errorf("an endpoint that no client takes: %v", err)
			}
		}
	})
}

func TestValidateNamesEveryFault(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		e    Endpoint
		says []string
	}{
		{"nothing", Endpoint{Name: "m"}, []string{`endpoint "m"`, "no URL"}},
		{"URLs", Endpoint{URLs: []string{"ftp://h", "http://", "http://h?x=1", "http://u:hush@h"}}, []string{"scheme", "write http://host:port", "query", "carries credentials"}},
		{"credentials", Endpoint{URLs: []string{"http://h"}, Username: "u", TokenFile: "t", Password: "hush", PasswordFile: "p"}, []string{"one kind of credentials", "a password and a password file"}},
		{"a password alone", Endpoint{URLs: []string{"http://h"}, Password: "hush"}, []string{"without a user name"}},
		{"timeout", Endpoint{URLs: []string{"http://h"}, Timeout: -1}, []string{"negative"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := tt.e.Validate()
			for _, says := range tt.says {
				if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hush") {
					t.Errorf("error %v, want one with %q", err, says)
				}
			}
		})
	}
}
