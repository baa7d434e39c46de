// Command curl posts a body as curl does, as far as the thesis' launcher and shell_trap use it: for tests on machines and in images without it.
//
//	curl URL -H 'Content-type: application/json' [-X POST] -d BODY|@FILE
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

func main() { os.Exit(run(os.Args[1:])) }

// run posts, and prints the answer; like curl's, its exit code says nothing of the answer's status.
func run(args []string) int {
	method, url, body := http.MethodPost, "", ""
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	for i := 0; i < len(args); i++ {
		flag := args[i]
		if !strings.HasPrefix(flag, "-") {
			url = flag
			continue
		}
		if i++; i == len(args) {
			return fail(2, fmt.Errorf("%s needs a value", flag))
		}
		switch flag {
		case "-X":
			method = args[i]
		case "-d":
			body = args[i]
		case "-H":
			name, value, _ := strings.Cut(args[i], ":")
			header.Set(strings.TrimSpace(name), strings.TrimSpace(value))
		default:
			return fail(2, fmt.Errorf("no flag %s", flag))
		}
	}
	if file, ok := strings.CutPrefix(body, "@"); ok { // curl takes the newlines out of a file
		b, err := os.ReadFile(file)
		if err != nil {
			return fail(26, err)
		}
		body = strings.NewReplacer("\n", "", "\r", "").Replace(string(b))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return fail(3, err)
	}
	req.Header = header
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fail(7, err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(os.Stdout, resp.Body); err != nil {
		return fail(56, err)
	}
	return 0
}

func fail(code int, err error) int {
	fmt.Fprintln(os.Stderr, "curl:", err)
	return code
}
