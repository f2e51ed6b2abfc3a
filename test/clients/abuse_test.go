//go:build clients

package clients

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestAbuse does to the server what clients do that are broken, impatient or
// hostile. Afterwards a good client must be served as before.
func TestAbuse(t *testing.T) {
	for _, tool := range []string{"curl", "lftp", "python3"} {
		Tool(t, tool, tool)
	}
	t.Run("silent", abuseSilent)
	t.Run("half open", abuseHalfOpen)
	t.Run("killed upload", abuseKilledUpload)
	t.Run("disk full", abuseDiskFull)
	t.Run("quota", abuseQuota)
	t.Run("abort", abuseAbort)
	t.Run("interrupt", abuseInterrupt)
	t.Run("kick", abuseKick)
}

// big is a file that a client with --limit-rate is busy with for minutes, more
// than all buffers on the way hold.
func big(t *testing.T, path string) {
	t.Helper()
	b := make([]byte, 64<<20)
	rand.NewChaCha8([32]byte{9}).Read(b)
	writeFile(t, path, b)
}

// good is a client that behaves: it must get through at any time.
func good(e env) {
	e.t.Helper()
	writeFile(e.t, filepath.Join(e.dir, "good"), content("plain.txt"))
	runs := []op{{"put", "good", "/good.txt"}, {"get", "/good.txt", "back"}, {"delete", "/good.txt", ""}}
	if r := runCurl(e, runs); r.Err != nil {
		e.t.Fatalf("a good client afterwards: %v\n%s\n%s", r.Err, r.Text(), clip(e.s.Log.Dialog(e.u.Name), 4000))
	}
	checkFile(e.t, filepath.Join(e.dir, "back"), content("plain.txt"))
}

func abuseEnv(t *testing.T, s *Server, tls string, args ...string) env {
	t.Helper()
	name := "ann-" + tls
	return env{t: t, s: s, tls: tls, on: tls, addr: s.Addr(tls), port: portText(s, tls), u: s.AddUser(t, name, args...), dir: TempDir(t)}
}

// background starts curl with the env's account; it is killed at the end.
func background(e env, args ...string) *exec.Cmd {
	e.t.Helper()
	base := []string{"-sS", "--cacert", e.s.caFile(), "--user", e.u.Name + ":" + e.u.Password, "--limit-rate", "2M"}
	if e.tls == "explicit" {
		base = append(base, "--ssl-reqd")
	}
	return spawn(e, "curl", append(base, args...)...)
}

func spawn(e env, name string, args ...string) *exec.Cmd {
	e.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = e.dir, environment(e.dir), ours()
	if err := cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd
}

// sessions are the live ones, as the command line lists them.
func sessions(e env) []map[string]any {
	e.t.Helper()
	var all []map[string]any
	if err := json.Unmarshal([]byte(e.s.CLI(e.t, "session", "list", "--json")), &all); err != nil {
		e.t.Fatal(err)
	}
	return all
}

// idle waits until no session is left.
func idle(e env) {
	e.t.Helper()
	Eventually(e.t, "the end of all sessions", func() bool { return len(sessions(e)) == 0 })
}

// holds fails unless the user's home holds exactly these files, hidden ones included.
func holds(e env, want ...string) {
	e.t.Helper()
	entries, err := os.ReadDir(e.u.Home)
	if err != nil {
		e.t.Fatal(err)
	}
	var got []string
	for _, d := range entries {
		got = append(got, d.Name())
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		e.t.Errorf("the home holds %q, want %q", got, want)
	}
}

// abuseSilent connects and says nothing, or too little too slowly.
func abuseSilent(t *testing.T) {
	s := Start(t, Config{Listen: matrixListeners()[:3], Extra: "[ftp]\nlogin_timeout = \"3s\"\n"})
	for _, l := range matrixListeners()[:3] {
		for _, drip := range []string{"", "USER aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"} {
			t.Run(fmt.Sprintf("%s drip %v", l.Name, drip != ""), func(t *testing.T) {
				t.Parallel()
				c, err := net.Dial("tcp", s.Addr(l.Name))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				go func() {
					for _, b := range []byte(drip) {
						if _, err := c.Write([]byte{b}); err != nil {
							return
						}
						time.Sleep(500 * time.Millisecond)
					}
				}()
				begin := time.Now()
				c.SetReadDeadline(begin.Add(patience))
				said, err := io.ReadAll(c)
				if ne, ok := err.(net.Error); ok && ne.Timeout() {
					t.Fatalf("still open after %v; it said %q", time.Since(begin), said)
				}
				if took := time.Since(begin); took < 2*time.Second {
					t.Errorf("closed after %v, before its time; it said %q", took, said)
				}
			})
		}
	}
}

// abuseHalfOpen holds 200 connections that never log in.
func abuseHalfOpen(t *testing.T) {
	s := Start(t, Config{Listen: matrixListeners()[:3]})
	for i := range 200 {
		c, err := net.Dial("tcp", s.Addr(matrixListeners()[i%3].Name))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	for _, l := range matrixListeners()[:3] {
		good(abuseEnv(t, s, l.Name))
	}
}

// abuseKilledUpload kills the client with SIGKILL while it uploads.
func abuseKilledUpload(t *testing.T) {
	s := Start(t, Config{Listen: matrixListeners()[:3]})
	for _, l := range matrixListeners()[:3] {
		t.Run(l.Name, func(t *testing.T) {
			t.Parallel()
			e := abuseEnv(t, s, l.Name)
			big(t, filepath.Join(e.dir, "big"))
			writeFile(t, filepath.Join(e.u.Home, "old"), []byte("old content"))
			for _, name := range []string{"new", "old"} {
				begun := strings.Count(e.s.Log.Dialog(e.u.Name), "S: 150 ")
				cmd := background(e, "--upload-file", "big", e.url("/"+name))
				Eventually(t, "the upload to begin", func() bool {
					return strings.Count(e.s.Log.Dialog(e.u.Name), "S: 150 ") > begun
				})
				time.Sleep(300 * time.Millisecond)
				cmd.Process.Kill()
				cmd.Wait()
				Eventually(t, "the server to notice", func() bool {
					return strings.Count(e.s.Log.Grep(" user="+e.u.Name+" "), "event=logout") > 0 && !strings.Contains(fmt.Sprint(sessions(e)), e.u.Name)
				})
				holds(e, "old")
				checkFile(t, filepath.Join(e.u.Home, "old"), []byte("old content"))
			}
			good(e)
		})
	}
}

// abuseDiskFull fills the disk in the middle of an upload over an old file.
func abuseDiskFull(t *testing.T) {
	s := Start(t, Config{Listen: matrixListeners()[:3], Tmpfs: 8 << 20})
	for _, l := range matrixListeners()[:3] {
		t.Run(l.Name, func(t *testing.T) {
			e := abuseEnv(t, s, l.Name, "--home", s.Small)
			big(t, filepath.Join(e.dir, "big"))
			writeFile(t, filepath.Join(e.dir, "old"), content("big.bin")[:1<<20])
			if r := runCurl(e, []op{{"put", "old", "/file"}}); r.Err != nil {
				t.Fatalf("%v\n%s", r.Err, r.Text())
			}
			if r := runCurl(e, []op{{"put", "big", "/file"}}); r.Err == nil {
				t.Fatal("64 MiB fit into 8")
			}
			if d := e.s.Log.Dialog(e.u.Name); !strings.Contains(d, "S: 452 ") {
				t.Errorf("no 452 for a full disk:\n%s", clip(d, 3000))
			}
			if r := runCurl(e, []op{{"get", "/file", "back"}}); r.Err != nil {
				t.Fatalf("the old file: %v\n%s", r.Err, r.Text())
			}
			SameFile(t, filepath.Join(e.dir, "old"), filepath.Join(e.dir, "back"))
			// What was written before is given back.
			writeFile(t, filepath.Join(e.dir, "six"), content("big.bin"))
			if r := runCurl(e, []op{{"put", "six", "/six"}, {"delete", "/six", ""}, {"delete", "/file", ""}}); r.Err != nil {
				t.Fatalf("the room was not given back: %v\n%s", r.Err, r.Text())
			}
			good(e)
		})
	}
}

// abuseQuota uploads more than the account may store.
func abuseQuota(t *testing.T) {
	s := Start(t, Config{Listen: matrixListeners()[:3]})
	for _, l := range matrixListeners()[:3] {
		t.Run(l.Name, func(t *testing.T) {
			t.Parallel()
			e := abuseEnv(t, s, l.Name, "--quota-bytes", "1MiB")
			big(t, filepath.Join(e.dir, "big"))
			if r := runCurl(e, []op{{"put", "big", "/file"}}); r.Err == nil {
				t.Fatal("the quota did not hold")
			}
			if d := e.s.Log.Dialog(e.u.Name); !strings.Contains(d, "S: 552 ") {
				t.Errorf("no 552:\n%s", clip(d, 3000))
			}
			holds(e)
			good(e)
		})
	}
}

// abuseAbort sends ABOR in the middle of a download and goes on with the session.
func abuseAbort(t *testing.T) {
	s := Start(t, Config{Listen: matrixListeners()[:3]})
	for _, l := range matrixListeners()[:3] {
		t.Run(l.Name, func(t *testing.T) {
			t.Parallel()
			e := abuseEnv(t, s, l.Name)
			big(t, filepath.Join(e.u.Home, "big"))
			r := Cmd{Args: append([]string{"python3", "-B", testdata(t, "abort.py")}, e.login()...), Dir: e.dir}.Run(t)
			if r.Err != nil {
				t.Fatalf("%v\n%s\n%s", r.Err, r.Text(), clip(e.s.Log.Dialog(e.u.Name), 4000))
			}
			SameFile(t, filepath.Join(e.u.Home, "big"), filepath.Join(e.dir, "back"))
		})
	}
}

// abuseInterrupt presses Ctrl-C while lftp and curl are at it.
func abuseInterrupt(t *testing.T) {
	s := Start(t, Config{Listen: matrixListeners()[:3]})
	for _, l := range matrixListeners()[:3] {
		t.Run(l.Name, func(t *testing.T) {
			e := abuseEnv(t, s, l.Name)
			big(t, filepath.Join(e.u.Home, "big"))
			big(t, filepath.Join(e.dir, "big"))
			scheme := strings.SplitAfter(e.url("/"), "//")[0]
			lftp := "set net:limit-rate 2000000; set ftp:ssl-force " + onOff(e.tls == "explicit") + "; set ssl:ca-file " + e.s.caFile() +
				"; open -u " + e.u.Name + "," + e.u.Password + " " + scheme + e.addr + "; "
			for verb, start := range map[string]func() *exec.Cmd{
				"RETR by curl": func() *exec.Cmd { return background(e, "--output", "back", e.url("/big")) },
				"STOR by curl": func() *exec.Cmd { return background(e, "--upload-file", "big", e.url("/new")) },
				"RETR by lftp": func() *exec.Cmd { return spawn(e, "lftp", "-c", lftp+"get /big -o back2") },
				"STOR by lftp": func() *exec.Cmd { return spawn(e, "lftp", "-c", lftp+"put big -o /new2") },
			} {
				begun := strings.Count(e.s.Log.Dialog(e.u.Name), "S: 150 ")
				cmd := start()
				Eventually(t, verb+" to begin", func() bool { return strings.Count(e.s.Log.Dialog(e.u.Name), "S: 150 ") > begun })
				time.Sleep(300 * time.Millisecond)
				cmd.Process.Signal(syscall.SIGINT)
				ended := make(chan error, 1)
				go func() { ended <- cmd.Wait() }()
				select {
				case <-ended:
				case <-time.After(patience):
					t.Fatalf("%s goes on after SIGINT\n%s", verb, clip(e.s.Log.Dialog(e.u.Name), 3000))
				}
				idle(e)
				holds(e, "big")
			}
			good(e)
		})
	}
}

// abuseKick ends sessions from the command line in the middle of a transfer.
func abuseKick(t *testing.T) {
	s := Start(t, Config{Listen: matrixListeners()[:3]})
	for _, l := range matrixListeners()[:3] {
		t.Run(l.Name, func(t *testing.T) {
			e := abuseEnv(t, s, l.Name)
			big(t, filepath.Join(e.u.Home, "big"))
			big(t, filepath.Join(e.dir, "big"))
			for verb, args := range map[string][]string{
				"RETR": {"--output", "back", e.url("/big")},
				"STOR": {"--upload-file", "big", e.url("/new")},
			} {
				begun := strings.Count(e.s.Log.Dialog(e.u.Name), "S: 150 ")
				cmd := background(e, args...)
				Eventually(t, verb+" to begin", func() bool { return strings.Count(e.s.Log.Dialog(e.u.Name), "S: 150 ") > begun })
				time.Sleep(300 * time.Millisecond)
				s.CLI(t, "session", "kick", "--user", e.u.Name, "--reason", "maintenance tonight")
				ended := make(chan error, 1)
				go func() { ended <- cmd.Wait() }()
				select {
				case err := <-ended:
					if err == nil {
						t.Errorf("%s: the client believes that all went well", verb)
					}
				case <-time.After(patience):
					t.Fatalf("%s: the client was not cut off", verb)
				}
				idle(e)
				holds(e, "big")
				if d := e.s.Log.Dialog(e.u.Name); !strings.Contains(d, "S: 421 ") || !strings.Contains(d, "maintenance tonight") {
					t.Errorf("%s: no 421 with the reason:\n%s", verb, clip(d, 3000))
				}
			}
			good(e)
		})
	}
}
