package e2e

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"qosctl/agent/thesis"
	"qosctl/qos"
)

// launcher does what the thesis' launcher does: it rewrites a job file, hands it in to its framework, and announces it to the supervisor.
type launcher struct {
	t          *testing.T
	supervisor string // URL
	curl       string // path, where jobs run
	trap       string // shell_trap's, where tasks run
	dir        string // of its checkpoints
	uuid       string
}

func newLauncher(t *testing.T, supervisor string) *launcher {
	t.Helper()
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return &launcher{t: t, supervisor: supervisor, uuid: hex.EncodeToString(b[:]), dir: t.TempDir()}
}

// id is what the agent calls the job.
func (l *launcher) id() string { return thesis.Dashed(l.uuid) }

// chronos rewrites a job as the launcher does: it repeats for ever, and its command tells the supervisor of its end.
func (l *launcher) chronos(file map[string]any) {
	name, command := file["name"].(string), file["command"].(string)
	file["command"] = "startedAt=$(date +%s); " + command + "; " + l.curl + " -H 'Content-type: application/json' -X POST " + l.supervisor +
		`/updateTask -d '{"name": "` + name + `", "finished_at": "'$(date +%s)'", "started_at": "'$(echo $startedAt)'", "hostname": "'$(hostname)'", "uuid": "` + l.uuid + `"}'`
	file["schedule"] = "R//" + strings.Split(file["schedule"].(string), "/")[2]
	delete(file, "qos")
}

// marathon rewrites an app as the launcher does: it runs shell_trap, which runs the job.
func (l *launcher) marathon(file map[string]any) {
	docker, _ := file["container"].(map[string]any)["docker"].(map[string]any)
	file["cmd"] = l.trap + ` $MY_UUID $MY_CHECKPOINT_DIR $MY_DOCKER_IMAGE $MY_START_URL_WEBHOOK $MY_END_URL_WEBHOOK "$MY_DOCKER_OPTIONS" "` + file["cmd"].(string) + `"`
	env, _ := file["env"].(map[string]any)
	if env == nil {
		env = map[string]any{}
		file["env"] = env
	}
	for k, v := range map[string]string{
		"MY_START_URL_WEBHOOK": l.supervisor + "/initMarathonApp", "MY_END_URL_WEBHOOK": l.supervisor + "/endMarathonApp",
		"MY_UUID": l.uuid, "MY_CHECKPOINT_DIR": l.dir, "MY_DOCKER_IMAGE": docker["image"].(string), "MY_DOCKER_OPTIONS": "",
	} {
		env[k] = v
	}
	delete(file, "container")
	delete(file, "qos")
	file["taskKillGracePeriodSeconds"] = 120
}

// announcement is the body of /initTask, as the launcher writes it: one of testdata, its figures replaced.
func (l *launcher) announcement(framework, name string, duration, deadline, deviation float64, iterations int) string {
	number := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	body := fmt.Sprintf(`{"framework": "%s", "name": "%s", "job_duration": %s, "deadline": %s, "desv_deadline": %s, "uuid": "%s"`,
		framework, name, number(duration), number(deadline), number(deviation), l.uuid)
	if framework == "chronos" {
		body += fmt.Sprintf(`, "iterations": %d`, iterations)
	}
	return body + "}"
}

// What is announced is, but for the figures, what the launcher sent.
func TestTheLaunchersBodiesAreThoseOfTheTestdata(t *testing.T) {
	t.Parallel()
	l := &launcher{uuid: "7986712f445b4902b0d6b857d4812440"}
	m := &launcher{uuid: "0b8c29a1f3de4c0f9d6a1f2e3d4c5b6a"}
	for name, got := range map[string]string{
		"initTask-chronos":  l.announcement("chronos", "openmpLinpack1", 400, 1497572412.52, 0.2, 4),
		"initTask-marathon": m.announcement("marathon", "openmplinpack1", 400, 480, 0.1, 0),
	} {
		want, err := os.ReadFile("../agent/thesis/testdata/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		if string(want) != got {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
		}
	}
}

// post sends a request that must be answered well, and returns the answer.
func (l *launcher) post(method, url, body string) string {
	l.t.Helper()
	r, err := http.NewRequestWithContext(l.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-type", "application/json")
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		l.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		l.t.Fatalf("%s %s: %s: %s (%v)", method, url, resp.Status, answer, err)
	}
	return string(answer)
}

func (l *launcher) postJSON(url string, v any) {
	l.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		l.t.Fatal(err)
	}
	l.post(http.MethodPost, url, string(b))
}

// announce tells the supervisor of the job, which answers with the same.
func (l *launcher) announce(body string) {
	l.t.Helper()
	if answer := l.post(http.MethodPost, l.supervisor+"/initTask", body); answer != thesis.Answer([]byte(body)) {
		l.t.Errorf("answer %q", answer)
	}
}

// thesisFile reads a job file of the thesis.
func thesisFile(t *testing.T, name string) (file map[string]any) {
	t.Helper()
	b, err := os.ReadFile("../qos/testdata/thesis/" + name + ".json")
	if err == nil {
		err = json.Unmarshal(b, &file)
	}
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// oldCluster is one whose agent speaks the old protocol.
func oldCluster(t *testing.T) (c *cluster, supervisor string) {
	t.Helper()
	listen := freeAddr(t)
	c = start(t, "--listen", listen, "--set", "thesis.enabled=true", "--set", "thesis.from=127.0.0.0/8", "--set", "mesos.poll=500ms")
	return c, "http://" + listen
}

// TestLauncherChronos: the old launcher's requests, and those of its job, take a Chronos job to its end, by either order of its two steps.
func TestLauncherChronos(t *testing.T) {
	c, supervisor := oldCluster(t)
	for _, first := range []string{"handed in", "announced"} {
		t.Run(first+" first", func(t *testing.T) {
			l := newLauncher(t, supervisor)
			l.curl = "/curl"
			file := thesisFile(t, "chronos-openmplinpack1")
			name := "openmpLinpack1-" + strings.Fields(first)[0]
			file["name"], file["command"] = name, shrink(t, file["command"])
			l.chronos(file)
			body := l.announcement("chronos", name, 2, float64(time.Now().Unix()+120)+0.25, 0.2, 3)
			if first == "announced" {
				l.announce(body)
			}
			l.postJSON("http://"+c.chronos+"/v1/scheduler/iso8601", file)
			if first == "handed in" {
				l.announce(body)
			}
			c.until("taken up", 30*time.Second, func() bool { _, err := c.api.Job(t.Context(), l.id()); return err == nil })
			c.until("at its end", 2*time.Minute, func() bool { return c.job(l.id()).Phase.Terminal() })
			j := c.job(l.id())
			if j.Phase != qos.PhaseCompleted || j.Tally.Succeeded != 3 || j.Tally.Failed != 0 || j.Tally.Met != 1 || j.Tally.CPU <= 0 || j.Tenant != "serlophug" {
				t.Errorf("at the end: %+v", j)
			}
			_, out, _ := c.qosctl("explain", l.id())
			// The first may have ended before the job was taken up: it counts by Mesos' word.
			if told := strings.Count(out, "an iteration on "); told < 2 || told > 3 || strings.Contains(out, "does not count") {
				t.Errorf("%d iterations were told:\n%s", told, out)
			}
			c.until("gone from Chronos", 20*time.Second, func() bool {
				return !strings.Contains(l.post(http.MethodGet, "http://"+c.chronos+"/v1/scheduler/jobs", ""), `"`+name+`"`)
			})
			t.Logf("%d iterations, %.2f CPU-s, %d resizes", j.Tally.Succeeded, j.Tally.CPU, j.Tally.Resizes)
		})
	}
}

// TestLauncherMarathon: the old launcher's app runs its execution to its end over a restart that others ask for, begins the next by itself,
// and ends when it is deleted.
func TestLauncherMarathon(t *testing.T) {
	c, supervisor := oldCluster(t)
	l := newLauncher(t, supervisor)
	here, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	l.trap = filepath.Join(here, "shell_trap")
	file := thesisFile(t, "marathon-openmplinpack1")
	file["cmd"], file["backoffSeconds"] = fmt.Sprintf("%s 240 %d", filepath.Join(here, "rounds"), 5*turns()), 1
	file["env"] = map[string]any{"CURL": filepath.Join(bin, "image", "curl")}
	l.marathon(file)
	l.postJSON("http://"+c.marathon+"/v2/apps", file)
	l.announce(l.announcement("marathon", "openmplinpack1", 12, 240, 0.1, 0))
	c.until("running, with progress", 30*time.Second, func() bool {
		j, err := c.api.Job(t.Context(), l.id())
		return err == nil && j.Phase == qos.PhaseRunning && j.Progress > 0.2
	})
	before := c.job(l.id())
	l.post(http.MethodDelete, "http://"+c.marathon+"/v2/apps/openmplinpack1/tasks", "")
	c.until("it goes on in its next task", 40*time.Second, func() bool {
		j := c.job(l.id())
		return j.Phase == qos.PhaseRunning && j.Epoch > before.Epoch && j.Progress > before.Progress
	})
	if j := c.job(l.id()); j.Index != 1 || !j.Deadline.Equal(before.Deadline) || len(j.Account.Entries) != 2 {
		t.Errorf("it began anew: %+v", j)
	}
	c.until("its end", 3*time.Minute, func() bool { return c.job(l.id()).Tally.Succeeded >= 1 })
	c.until("the next one", 40*time.Second, func() bool { j := c.job(l.id()); return j.Phase == qos.PhaseRunning && j.Index >= 2 })
	j := c.job(l.id())
	if r := j.Runs[0]; r.Outcome != qos.Met || r.Parts != 2 || r.ExitCode != 0 || r.CPU < before.Progress || j.Tally.Failed != 0 {
		t.Errorf("its first execution: %+v", j)
	}
	l.post(http.MethodDelete, "http://"+c.marathon+"/v2/apps/openmplinpack1", "")
	c.until("cancelled", 60*time.Second, func() bool { return c.job(l.id()).Phase == qos.PhaseCancelled })
	_, out, _ := c.qosctl("explain", l.id())
	if strings.Count(out, "an execution has begun") < 2 || !strings.Contains(out, "the execution has ended") {
		t.Errorf("told was:\n%s", out)
	}
	t.Logf("%d resizes, %+v", j.Tally.Resizes, j.Runs[0])
}
