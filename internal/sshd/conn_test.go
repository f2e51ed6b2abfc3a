package sshd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
)

func TestOnlyFilesAreServed(t *testing.T) {
	r := newRig(t, nil)
	r.put("f", "hello")
	c := r.client()
	for _, kind := range []string{"direct-tcpip", "forwarded-tcpip", "x11", "auth-agent@openssh.com", "tun@openssh.com", "direct-streamlocal@openssh.com"} {
		_, _, err := c.OpenChannel(kind, make([]byte, 40))
		var refused *ssh.OpenChannelError
		if !errors.As(err, &refused) || !strings.Contains(refused.Message, "files only") {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if _, err := c.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("the server listens for others")
	}
	for command, want := range map[string]string{
		"rsync --server . /": "rclone", "ls /": "files only", "sh -c id": "files only", "scp": "from your side", "": "cannot be read", "md5sum 'x": "quotes",
		"/bin/sh": "files only", "sftp-server": "subsystem", strings.Repeat("x ", maxCommand): "too long",
	} {
		out, errs, code := r.run(c, "", command)
		if code != 1 || out != "" || !strings.Contains(errs, want) {
			t.Errorf("%.40q: %q %q, exit %d, want a sentence with %q", command, out, errs, code, want)
		}
	}
	for command, want := range map[string]string{
		"md5sum /f": "5d41402abc4b2a76b9719d911017c592  /f\n", "sha1sum f": "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d  /f\n",
		"sha256sum -b -- /f": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824  /f\n",
		"/usr/bin/md5sum":    "d41d8cd98f00b204e9800998ecf8427e  -\n", shellQuestion: shellAnswer,
	} {
		if out, errs, code := r.run(c, "", command); out != want || code != 0 {
			t.Errorf("%s: %q %q, exit %d", command, out, errs, code)
		}
	}
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RequestPty("xterm", 24, 80, nil); err == nil {
		t.Error("there is a terminal")
	}
	var told bytes.Buffer
	s.Stderr = &told
	if err := s.Shell(); err != nil {
		t.Error(err)
	}
	s.Wait()
	if !strings.Contains(told.String(), "no shell") {
		t.Errorf("a shell was answered with %q", told.String())
	}
	// At most ten channels.
	var open []ssh.Channel
	for i := range maxChannels + 1 {
		ch, reqs, err := c.OpenChannel("session", nil)
		if (err == nil) != (i < maxChannels) {
			t.Fatalf("channel %d: %v", i+1, err)
		}
		if err == nil {
			go ssh.DiscardRequests(reqs)
			open = append(open, ch)
		}
	}
	for _, ch := range open {
		ch.Close()
	}
}

func TestWrongDoor(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Ports = func() string { return "port 21 speaks FTP" } })
	for in, want := range map[string]string{
		"GET / HTTP/1.1\r\n\r\n": "HTTP/1.1 400 ", "USER ann\r\n": "421 This port speaks SSH (SFTP and SCP). On this server port 21 speaks FTP.",
		"\x16\x03\x01\x02\x00\x01\x00": "\x15\x03\x01\x00\x02\x02\x28", "SSH-2.0-x\r\n": identity, "": identity,
	} {
		nc, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		nc.Write([]byte(in))
		nc.SetReadDeadline(time.Now().Add(5 * time.Second))
		got := make([]byte, 4096)
		n, _ := io.ReadAtLeast(nc, got, len(want))
		if !strings.HasPrefix(string(got[:n]), want) {
			t.Errorf("%.10q was answered with %q, want %q", in, got[:n], want)
		}
		nc.Close()
	}
}

func TestKick(t *testing.T) {
	r := newRig(t, nil)
	c := r.client()
	ch, reqs, err := c.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(reqs)
	ch.SendRequest("subsystem", true, str("sftp"))
	p := &raw{t: t, rw: ch}
	p.hello()
	h := p.open("/x", openWrite|openCreate|openTrunc)
	p.status(fxpWrite, statusOK, str(h), u64(0), str("half"))
	all := r.m.Sessions()
	if len(all) != 1 || all[0].User != "ann" || all[0].Op != "upload" || all[0].Path != "/x" || !strings.HasPrefix(all[0].TLS, "SSH ") || all[0].Protocol != "sftp" {
		t.Errorf("live view: %+v", all)
	}
	if !r.m.Kick(all[0].ID, "maintenance at noon") {
		t.Fatal("nobody was kicked")
	}
	told, _ := io.ReadAll(ch.Stderr())
	if !strings.Contains(string(told), "Maintenance at noon.") {
		t.Errorf("the client was told %q", told)
	}
	c.Wait()
	e := r.events(events.Upload, 1)[0]
	if e.Fault != fault.Canceled || !strings.Contains(e.Detail, "maintenance") {
		t.Errorf("upload event %+v", e)
	}
	if e := r.events(events.Logout, 1)[0]; !strings.Contains(e.Detail, "maintenance") {
		t.Errorf("logout event %+v", e)
	}
	if got := r.names(); len(got) != 0 {
		t.Errorf("left on disk: %q", got)
	}
}

// TestShutdownDrains: who does nothing leaves at once, an upload may finish.
func TestShutdownDrains(t *testing.T) {
	r := newRig(t, nil)
	idle := r.client()
	x := r.sftp()
	f, err := x.Create("/f")
	if err != nil {
		t.Fatal(err)
	}
	f.Write([]byte("one "))
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		done <- r.s.Shutdown(ctx)
	}()
	idle.Wait()
	select {
	case err := <-done:
		t.Fatalf("Shutdown returned during an upload: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if _, err := f.Write([]byte("two")); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Errorf("finishing the upload: %v", err)
	}
	if err := <-done; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if got := r.get("f"); got != "one two" {
		t.Errorf("the file holds %q", got)
	}
	if _, err := net.DialTimeout("tcp", r.addr, time.Second); err == nil {
		t.Error("the port is still open")
	}
}

func TestShutdownCuts(t *testing.T) {
	r := newRig(t, nil)
	x := r.sftp()
	f, err := x.Create("/f")
	if err != nil {
		t.Fatal(err)
	}
	f.Write([]byte("half"))
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := r.s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown: %v", err)
	}
	if got := r.names(); len(got) != 0 {
		t.Errorf("left on disk: %q", got)
	}
}

func TestIdleAndKeepAlive(t *testing.T) {
	r := newRig(t, func(o *Options) { o.IdleTimeout, o.KeepAlive = 400*time.Millisecond, 50*time.Millisecond })
	c := r.client()
	began := time.Now()
	c.Wait()
	if d := time.Since(began); d < 300*time.Millisecond || d > 10*time.Second {
		t.Errorf("an idle connection lived for %v, want 400 ms", d)
	}
	if e := r.events(events.Logout, 1)[0]; !strings.Contains(e.Detail, "nothing was asked") {
		t.Errorf("logout event %+v", e)
	}
}

// TestHostKeys proves rotation: what the server announces it can also prove.
func TestHostKeys(t *testing.T) {
	r := newRig(t, nil)
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	sc, chans, reqs, err := ssh.NewClientConn(nc, r.addr, &ssh.ClientConfig{User: "ann", Auth: []ssh.AuthMethod{ssh.Password("secret")}, HostKeyCallback: ssh.FixedHostKey(r.host)})
	if err != nil {
		t.Fatal(err)
	}
	defer sc.Close()
	go func() {
		for n := range chans {
			n.Reject(ssh.Prohibited, "")
		}
	}()
	for q := range reqs {
		if q.Type != "hostkeys-00@openssh.com" {
			continue
		}
		d := decoder{b: q.Payload}
		key := d.bytes()
		ok, sigs, err := sc.SendRequest("hostkeys-prove-00@openssh.com", true, q.Payload)
		if err != nil || !ok {
			t.Fatalf("no proof: %v %v", ok, err)
		}
		sd := decoder{b: sigs}
		var sig ssh.Signature
		if err := ssh.Unmarshal(sd.bytes(), &sig); err != nil {
			t.Fatal(err)
		}
		pub, err := ssh.ParsePublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		text := ssh.Marshal(struct {
			Name         string
			Session, Key []byte
		}{"hostkeys-prove-00@openssh.com", sc.SessionID(), key})
		if err := pub.Verify(text, &sig); err != nil {
			t.Error(err)
		}
		break
	}
	if ok, _, _ := sc.SendRequest("hostkeys-prove-00@openssh.com", true, str("not a key of ours")); ok {
		t.Error("a foreign key was proved")
	}
}

func TestHostKeyFiles(t *testing.T) {
	for _, kind := range HostKeyKinds {
		file, err := NewHostKey(kind)
		if err != nil {
			t.Fatal(err)
		}
		k, err := ParseHostKey(file, nil)
		if err != nil || !strings.HasPrefix(k.Fingerprint(), "SHA256:") || !strings.Contains(k.Type(), kind) {
			t.Errorf("%s: %s, %v", kind, k.Type(), err)
		}
		if fp := k.SSHFP(); len(fp) != 2 || len(strings.Fields(fp[0])[3]) != 64 || strings.Contains(fp[0], "SSHFP 0") {
			t.Errorf("%s: %q", kind, fp)
		}
		if _, err := ParseHostKey(file, []byte(k.Line())); err == nil {
			t.Errorf("%s: a plain key was taken for a certificate", kind)
		}
	}
	for _, bad := range []string{"", "-----BEGIN RSA PRIVATE KEY-----\nx\n-----END RSA PRIVATE KEY-----\n"} {
		if _, err := ParseHostKey([]byte(bad), nil); err == nil {
			t.Errorf("%q was read as a key", bad)
		}
	}
}

// TestGather: held writes leave when they are released, and by themselves when
// nobody releases them, in order and whole.
func TestGather(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	c := newNetConn(a)
	defer c.Close()
	var mu sync.Mutex
	var got []int // size of each read
	var all bytes.Buffer
	go func() {
		buf := make([]byte, 1<<20)
		for {
			n, err := b.Read(buf)
			if err != nil {
				return
			}
			mu.Lock()
			got = append(got, n)
			all.Write(buf[:n])
			mu.Unlock()
		}
	}()
	wait := func(n int) {
		t.Helper()
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			mu.Lock()
			have := all.Len()
			mu.Unlock()
			if have == n {
				return
			}
		}
		t.Fatalf("%d octets did not arrive", n)
	}
	want := noise(wireBlock + 28000 + 52)
	c.Write(want[:wireBlock]) // the head of a packet ...
	c.Write(want[wireBlock : wireBlock+28000])
	wait(wireBlock + 28000)
	c.gather()
	c.Write(want[wireBlock+28000:])
	wait(len(want)) // by the timer
	c.gather()
	for range 3 {
		c.Write(want)
	}
	c.release()
	c.release()
	wait(4 * len(want))
	mu.Lock()
	defer mu.Unlock()
	if !bytes.Equal(all.Bytes()[:len(want)], want) || len(got) > 4 || got[0] != wireBlock+28000 {
		t.Errorf("pieces of %v", got)
	}
}
