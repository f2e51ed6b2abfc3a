package session

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"time"

	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/transcript"
)

// Tape is the running transcript of the connection, nil when nobody has asked
// for one. Fronts write the lines of their protocol to it, secrets cut.
func (g *Guest) Tape() *transcript.Tape { return g.tape.Load() }

// Tape is that of the connection.
func (s *Session) Tape() *transcript.Tape { return s.g.tape.Load() }

// OnTape sets what is told when a transcript begins, at once if one runs
// already, and with nil when it ends. It may be called on any goroutine.
func (g *Guest) OnTape(fn func(*transcript.Tape)) {
	g.mu.Lock()
	g.onTape = fn
	g.mu.Unlock()
	if t := g.tape.Load(); t != nil && fn != nil {
		fn(t)
	}
}

// Transcribe begins the transcript of a live connection, if one was asked for
// by its id. It reports whether there is such a connection.
func (m *Manager) Transcribe(id string) bool {
	m.mu.Lock()
	g := m.guests[id]
	m.mu.Unlock()
	if g == nil {
		return false
	}
	user := ""
	if s := g.session(); s != nil {
		user = s.user
	}
	g.watch(user)
	return true
}

// watch begins a transcript if one was asked for. user is who logs in, "" when
// nobody has said so yet.
func (g *Guest) watch(user string) {
	r := g.m.conf.Transcripts
	if t := g.tape.Load(); t != nil && !t.Ended() {
		if t.For() == "" || t.For() == user {
			return
		}
		t.End("somebody else logs in")
	}
	if !r.Asked() {
		return
	}
	from := g.Origin()
	t := r.Begin(transcript.Meta{Session: g.id, Protocol: from.Protocol, Listener: from.Listener, User: user, Remote: from.Remote, Local: from.Local}, g.dropTape)
	if t == nil {
		return
	}
	g.setTape(t)
	g.mu.Lock()
	tls, closed := g.tls, g.closed
	g.mu.Unlock()
	if tls != "" {
		t.Note("protected by %s", tls)
	}
	if closed { // while this was going on
		t.End("the connection ended")
	}
	g.dropTape() // it may have ended before it was set
}

func (g *Guest) setTape(t *transcript.Tape) {
	g.tape.Store(t)
	g.tellTape()
}

// dropTape forgets a transcript that has ended. One that has begun meanwhile stays.
func (g *Guest) dropTape() {
	if t := g.tape.Load(); t != nil && t.Ended() && g.tape.CompareAndSwap(t, nil) {
		g.tellTape()
	}
}

// tellTape tells of the transcript there is by now.
func (g *Guest) tellTape() {
	g.mu.Lock()
	fn := g.onTape
	g.mu.Unlock()
	if fn != nil {
		fn(g.tape.Load())
	}
}

func (g *Guest) endTape(cause error) {
	if t := g.tape.Load(); t != nil {
		why := "the connection ended"
		if cause != nil {
			why += ": " + cause.Error()
		}
		t.End(why)
	}
}

// tapeLogin notes with what somebody tries to log in, never the secret itself.
func (g *Guest) tapeLogin(c auth.Credential) {
	t := g.Tape()
	if t == nil {
		return
	}
	with := "a credential"
	switch c := c.(type) {
	case auth.Password:
		with = "a password"
	case auth.NewPassword:
		with = "a new password"
	case auth.Code:
		with = "a code"
	case auth.ClientCert:
		with = "a client certificate"
	case auth.PublicKey:
		with = "the key " + fingerprint(c.Key)
	}
	t.Note("log-in as %s with %s", c.Username(), with)
}

func fingerprint(key []byte) string {
	sum := sha256.Sum256(key)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// tapeEvent notes what became of an operation.
func (m *Manager) tapeEvent(e *events.Event) {
	m.mu.Lock()
	g := m.guests[e.Session]
	m.mu.Unlock()
	if g == nil {
		return
	}
	t := g.Tape()
	if t == nil {
		return
	}
	var b strings.Builder
	b.WriteString(string(e.Kind))
	if e.Path != "" {
		b.WriteString(" " + e.Path)
	}
	if e.Target != "" {
		b.WriteString(" to " + e.Target)
	}
	b.WriteString(": ")
	if e.Fault == fault.None {
		b.WriteString("ok")
	} else {
		b.WriteString(e.Fault.String())
	}
	if e.Kind == events.Upload || e.Kind == events.Download || e.Kind == events.Logout {
		t.Note("%s, %d octets in %s%s", b.String(), e.Bytes, e.Took.Round(time.Millisecond), detailed(e.Detail))
		return
	}
	t.Note("%s%s", b.String(), detailed(e.Detail))
}

func detailed(s string) string {
	if s != "" {
		s = ", " + s
	}
	return s
}
