package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	e2enode "qosctl/e2e/node"
)

// packages of the root file system that Chromium is in, with fonts that look alike everywhere.
const chromiumPackages = "chromium,dbus-x11,fonts-inter,fonts-jetbrains-mono,ca-certificates"

// browser is a Chromium of Debian's in a root file system of its own, and playwright-core, both in the cache of the end-to-end tests.
func browser(t *testing.T) (chromium, modules string) {
	t.Helper()
	if os.Getenv("QOSCTL_PAGE") == "" {
		t.Skip("make page-test (QOSCTL_PAGE=1) opens the page in Chromium, which it installs (as root)")
	}
	if _, err := exec.LookPath("npm"); err != nil {
		t.Fatal("needs Node.js with npm: apt-get install npm")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	root, err := e2enode.RootOf(ctx, "chromium", e2enode.Trixie, chromiumPackages)
	if err != nil {
		t.Fatal(err)
	}
	aliases := `<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>
<alias binding="strong"><family>sans-serif</family><prefer><family>Inter</family></prefer></alias>
<alias binding="strong"><family>system-ui</family><prefer><family>Inter</family></prefer></alias>
<alias binding="strong"><family>monospace</family><prefer><family>JetBrains Mono</family></prefer></alias></fontconfig>`
	script := "#!/bin/sh\nexec unshare --mount sh -c 'r=$1; shift; for d in proc dev sys tmp; do mount --rbind /$d $r/$d; done; exec chroot $r /usr/bin/env HOME=/tmp /usr/lib/chromium/chromium \"$@\"' chromium " + root + " \"$@\"\n"
	chromium = filepath.Join(t.TempDir(), "chromium")
	for path, text := range map[string]string{filepath.Join(root, "etc/fonts/local.conf"): aliases, chromium: script} {
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	modules = filepath.Join(e2enode.Cache(), "page")
	if err := os.MkdirAll(modules, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"package.json", "package-lock.json", "browser.mjs"} {
		b, err := os.ReadFile(filepath.Join("page", "browser", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(modules, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline")
	cmd.Dir = modules
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	return chromium, modules
}

// TestThePageInChromium shows that the page shows what the API says, and is there in time.
func TestThePageInChromium(t *testing.T) {
	chromium, modules := browser(t)
	for _, c := range []struct {
		jobs   int
		thesis bool
	}{{1, false}, {8, true}, {100, false}, {1000, false}} {
		t.Run(fmt.Sprintf("%d jobs", c.jobs), func(t *testing.T) {
			g := newGallery(t, 3)
			job := ""
			if c.thesis {
				g.thesis()
				job = g.here[5].spec().ID + "," + g.here[4].spec().ID
			} else {
				g.cpus = 16
				g.crowd(c.jobs)
			}
			if c.jobs == 1 {
				g.here[0].row.Record.Spec.Name = hostileName
			}
			live := 0
			for _, j := range g.jobs.all() {
				if !j.status().Phase.Terminal() {
					live++
				}
			}
			load, budget := loadAverage(t), 1000
			if n, err := strconv.ParseFloat(load, 64); err != nil || n > 4 {
				t.Logf("load %s: above 4 the first paint may take five seconds", load)
				budget = 5000
			}
			s := httptest.NewServer(g.guard(g.adminRoutes()))
			t.Cleanup(s.Close)
			ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "node", "browser.mjs")
			cmd.Dir = modules
			cmd.Env = append(os.Environ(), "URL="+s.URL, "CHROMIUM="+chromium, fmt.Sprintf("JOBS=%d", live), fmt.Sprintf("BUDGET=%d", budget), "JOB="+job, "SHOTS="+os.Getenv("QOSCTL_SHOTS"))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			var times struct{ First, Rows, All float64 }
			if err := json.Unmarshal(out, &times); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			t.Logf("%d jobs: first paint after %.0f ms, a screen of them after %.0f ms, all after %.0f ms (load %s)", live, times.First, times.Rows, times.All, load)
		})
	}
}

// loadAverage is that of the last minute.
func loadAverage(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		t.Fatal(err)
	}
	load, _, _ := strings.Cut(string(b), " ")
	return load
}

const hostileName = `/<img src=x onerror=alert(1)>"'&lt;`
