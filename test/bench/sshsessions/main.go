// Sshsessions measures what the benchmark harness has no case for: the memory
// of an idle SFTP session, and what an SFTP log-in costs. It starts servers by
// the harness's adapters and appends lines in the harness's form.
//
//	go run ./test/bench/sshsessions -adapters DIR -servers portreeve,openssh -json out.jsonl
//
// Memory is the growth of the summed PSS of all processes of the server, two
// seconds after the last log-in; CPU is that of the server's process and of
// its ended children. Log-ins are by ed25519 key, one after another.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

type server struct {
	name, adapter, dir, address, user string
	pid                               int
	env                               []string
}

func main() {
	adapters := flag.String("adapters", "", "directory of the harness's adapters")
	servers := flag.String("servers", "portreeve,openssh", "servers to measure")
	rounds := flag.Int("rounds", 5, "interleaved rounds")
	sessions := flag.Int("sessions", 200, "idle sessions")
	logins := flag.Int("logins", 100, "log-ins of a sample")
	out := flag.String("json", "", "append lines to this file")
	flag.Parse()
	if err := run(*adapters, strings.Split(*servers, ","), *rounds, *sessions, *logins, *out); err != nil {
		fmt.Fprintln(os.Stderr, "sshsessions:", err)
		os.Exit(1)
	}
}

func run(adapters string, names []string, rounds, sessions, logins int, out string) error {
	f, err := os.OpenFile(out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	dir, err := os.MkdirTemp("", "sshsessions-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	env, key, err := prepare(dir)
	if err != nil {
		return err
	}
	idle := fmt.Sprintf("idle-sftp-%d", sessions)
	lines := json.NewEncoder(f)
	for round := 1; round <= rounds; round++ {
		for i := range names {
			name := names[(i+round)%len(names)]
			s := &server{name: name, adapter: filepath.Join(adapters, name), env: append(env, fmt.Sprintf("BENCH_PORT=%d", 17000+1500*i))}
			mem, cost, err := s.measure(filepath.Join(dir, fmt.Sprintf("%s-%d", name, round)), key, sessions, logins)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			fmt.Printf("round %d %s: %.1f KiB a session, %.2f ms CPU a log-in, %.0f log-ins/s\n", round, name, mem["pss_KiB_per_session"], cost["cpu_ms_per_login"], cost["logins_per_s"])
			for c, v := range map[string]map[string]float64{idle: mem, "login-sftp": cost} {
				if err := lines.Encode(map[string]any{"type": "sample", "case": c, "server": name, "round": round, "values": v}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// prepare makes the keys, and the environment that adapters expect.
func prepare(dir string) ([]string, ssh.Signer, error) {
	key, host, cert := filepath.Join(dir, "key"), filepath.Join(dir, "host"), filepath.Join(dir, "cert")
	for _, c := range [][]string{
		{"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key},
		{"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", host},
		{"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", cert + ".key", "-out", cert, "-subj", "/CN=localhost", "-days", "2"},
	} {
		if b, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			return nil, nil, fmt.Errorf("%s: %w: %s", c[0], err, b)
		}
	}
	hash, err := exec.Command("openssl", "passwd", "-1", "secret").Output()
	if err != nil {
		return nil, nil, err
	}
	u, err := user.Lookup("bench")
	if err != nil {
		return nil, nil, fmt.Errorf("%w; make it: useradd -M -d / -s /bin/sh bench", err)
	}
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		return nil, nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, nil, err
	}
	b, err := os.ReadFile(key)
	if err != nil {
		return nil, nil, err
	}
	signer, err := ssh.ParsePrivateKey(b)
	return append(os.Environ(), "BENCH_DATA="+data, "BENCH_USER=bench", "BENCH_PASS=secret", "BENCH_CRYPT="+strings.TrimSpace(string(hash)),
		"BENCH_UID="+u.Uid, "BENCH_GID="+u.Gid, "BENCH_CERT="+cert, "BENCH_KEY="+cert+".key", "BENCH_HOSTKEY="+host, "BENCH_CLIENTKEY="+key+".pub", "BENCH_WRAP="), signer, err
}

func (s *server) measure(dir string, key ssh.Signer, sessions, logins int) (mem, cost map[string]float64, err error) {
	if err := s.start(dir); err != nil {
		return nil, nil, err
	}
	defer s.stop()
	// The first session pays for what is made once.
	c, err := s.open(key)
	if err != nil {
		return nil, nil, err
	}
	c.Close()
	time.Sleep(10 * time.Second) // what the start used is given back by then
	before := s.pss()
	begin := time.Now()
	var open []*ssh.Client
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for range sessions {
		c, err := s.open(key)
		if err != nil {
			return nil, nil, err
		}
		open = append(open, c)
	}
	took := time.Since(begin)
	time.Sleep(2 * time.Second)
	mem = map[string]float64{"pss_KiB_per_session": (s.pss() - before) / float64(sessions), "open_s": took.Seconds(), "pss_base_MiB": before / 1024}
	for _, c := range open {
		c.Close()
	}
	time.Sleep(time.Second)
	cost, err = s.logins(key, logins)
	return mem, cost, err
}

func (s *server) logins(key ssh.Signer, n int) (map[string]float64, error) {
	begin, cpu := time.Now(), s.cpu()
	for range n {
		c, err := s.open(key)
		if err != nil {
			return nil, err
		}
		c.Close()
	}
	took := time.Since(begin)
	time.Sleep(300 * time.Millisecond) // children are reaped
	return map[string]float64{"cpu_ms_per_login": 1000 * (s.cpu() - cpu) / float64(n), "logins_per_s": float64(n) / took.Seconds()}, nil
}

// open logs in and starts the sftp subsystem.
func (s *server) open(key ssh.Signer) (*ssh.Client, error) {
	c, err := ssh.Dial("tcp", s.address, &ssh.ClientConfig{User: s.user, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 20 * time.Second})
	if err != nil {
		return nil, err
	}
	x, err := c.NewSession()
	if err != nil {
		return nil, err
	}
	in, err := x.StdinPipe()
	if err != nil {
		return nil, err
	}
	answer, err := x.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := x.RequestSubsystem("sftp"); err != nil {
		return nil, err
	}
	if _, err := in.Write([]byte{0, 0, 0, 5, 1, 0, 0, 0, 3}); err != nil { // INIT, version 3
		return nil, err
	}
	_, err = io.ReadFull(answer, make([]byte, 9)) // VERSION
	return c, err
}

func (s *server) start(dir string) error {
	s.dir = dir
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	cmd := exec.Command(s.adapter, "start", dir)
	cmd.Env, cmd.Stderr = s.env, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	for _, l := range strings.Split(string(out), "\n") {
		switch k, v, _ := strings.Cut(l, "="); k {
		case "pid":
			s.pid, _ = strconv.Atoi(v)
		case "sftp":
			s.address = "127.0.0.1:" + v
		case "user":
			s.user = v
		}
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if c, err := ssh.Dial("tcp", s.address, &ssh.ClientConfig{HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: time.Second}); err == nil {
			c.Close()
			return nil
		} else if strings.Contains(err.Error(), "unable to authenticate") || time.Now().After(end) {
			return nil
		}
	}
}

func (s *server) stop() {
	cmd := exec.Command(s.adapter, "stop", s.dir)
	cmd.Env = s.env
	cmd.Run()
	time.Sleep(300 * time.Millisecond)
}

// tree is the server's process and its descendants.
func (s *server) tree() []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range stats {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		parent, _ := strconv.Atoi(fields[1])
		children[parent] = append(children[parent], pid)
	}
	all := []int{s.pid}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}

// pss is in KiB.
func (s *server) pss() (sum float64) {
	for _, pid := range s.tree() {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		for _, l := range strings.Split(string(b), "\n") {
			if f := strings.Fields(l); len(f) > 1 && f[0] == "Pss:" {
				v, _ := strconv.ParseFloat(f[1], 64)
				sum += v
			}
		}
	}
	return sum
}

// cpu is in seconds, children that have ended included.
func (s *server) cpu() float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	var ticks float64
	for _, f := range fields[11:15] { // utime, stime, cutime, cstime
		v, _ := strconv.ParseFloat(f, 64)
		ticks += v
	}
	return ticks / 100
}
