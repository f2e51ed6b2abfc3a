package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/transcript"
)

// NewTranscript asks for transcripts: of a live session, of the next sessions
// of an account, or of the next connections from an address or network.
// Exactly one of the three is to be set.
type NewTranscript struct {
	Session string        `json:"session,omitempty"`
	User    string        `json:"user,omitempty"`
	Network string        `json:"network,omitempty"`
	For     time.Duration `json:"for_ns,omitempty"` // 0: 15 minutes; at most 24 hours
}

// TranscriptRequest is a request that is in force.
type TranscriptRequest struct {
	ID      string    `json:"id"`
	Session string    `json:"session,omitempty"`
	User    string    `json:"user,omitempty"`
	Network string    `json:"network,omitempty"`
	By      string    `json:"by,omitempty"`
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until"`
	Begun   int       `json:"begun"` // transcripts that were begun because of it
}

// Transcript is one that was recorded, or is being recorded.
type Transcript struct {
	Session  string    `json:"session"`
	Request  string    `json:"request"`
	Protocol string    `json:"protocol"`
	Remote   string    `json:"remote"`
	User     string    `json:"user,omitempty"` // where the recording began with a log-in or later
	By       string    `json:"by,omitempty"`
	Begun    time.Time `json:"begun"`
	Bytes    int64     `json:"bytes"`
	Running  bool      `json:"running"`
	Text     string    `json:"text,omitempty"` // of one that is shown
}

// TranscriptList is what there is of both.
type TranscriptList struct {
	Requests    []TranscriptRequest `json:"requests"`
	Transcripts []Transcript        `json:"transcripts"`
}

// recorder is where transcripts are. They show what other people's accounts
// do, so a limited administrator has none of it.
func (s *Service) recorder(ctx context.Context, what string) (*transcript.Recorder, error) {
	if err := errors.Join(s.may(ctx, ScopeSessions), unlimited(ctx, what)); err != nil {
		return nil, err
	}
	if s.tapes == nil {
		return nil, fault.Text(fault.Unavailable, "no server runs here, and only a running one records sessions")
	}
	return s.tapes, nil
}

// AskTranscript begins to record what n says. fault.Invalid, fault.NotExist for
// a session that is not live, fault.Limit.
func (s *Service) AskTranscript(ctx context.Context, n NewTranscript) (TranscriptRequest, error) {
	r, err := s.recorder(ctx, "record sessions")
	if err != nil {
		return TranscriptRequest{}, err
	}
	given := 0
	for _, v := range []string{n.Session, n.User, n.Network} {
		if v != "" {
			given++
		}
	}
	if given != 1 {
		return TranscriptRequest{}, fault.Text(fault.Invalid, "say what to record: one session, one account, or one address or network")
	}
	q := transcript.Request{Session: n.Session, User: n.User, By: actor(ctx)}
	switch {
	case n.User != "":
		err = account.ValidName(n.User)
	case n.Network != "":
		q.Network, err = ParseNetwork(n.Network)
	default:
		err = s.isLive(n.Session)
	}
	if err == nil && s.bus != nil {
		err = s.bus.Ready() // nobody is recorded behind the back of a trail that is required
	}
	if err == nil {
		q, err = r.Ask(q, n.For)
	}
	if err != nil {
		return TranscriptRequest{}, err
	}
	s.note(ctx, events.Event{Kind: events.Transcript, Session: q.Session, User: q.User, Target: subject(q),
		Detail: fmt.Sprintf("asked for until %s (request %s)", q.Until.UTC().Format(time.RFC3339), q.ID)})
	if live, ok := s.live.(interface{ Transcribe(id string) bool }); ok && q.Session != "" && !live.Transcribe(q.Session) {
		_, _ = r.Stop(q.ID) // it ended a moment ago
		return TranscriptRequest{}, noSession(q.Session)
	}
	return requested(q), nil
}

func noSession(id string) error {
	return fault.Text(fault.NotExist, fmt.Sprintf("there is no session %q; it may have ended already", id))
}

func (s *Service) isLive(id string) error {
	if s.live != nil {
		for _, v := range s.live.Sessions() {
			if v.ID == id {
				return nil
			}
		}
	}
	return noSession(id)
}

func subject(q transcript.Request) string {
	switch {
	case q.Session != "":
		return "session " + q.Session
	case q.User != "":
		return "account " + q.User
	}
	return networkText(q.Network)
}

func requested(q transcript.Request) TranscriptRequest {
	out := TranscriptRequest{ID: q.ID, Session: q.Session, User: q.User, By: q.By, Since: q.Since, Until: q.Until, Begun: q.Begun}
	if q.Network.IsValid() {
		out.Network = networkText(q.Network)
	}
	return out
}

func recorded(i transcript.Info) Transcript {
	return Transcript{Session: i.Session, Request: i.Request, Protocol: i.Protocol, Remote: i.Remote, User: i.User, By: i.By, Begun: i.Begun, Bytes: i.Octets, Running: i.Running}
}

// Transcripts returns the requests in force and what was recorded, oldest first.
func (s *Service) Transcripts(ctx context.Context) (TranscriptList, error) {
	l := TranscriptList{Requests: []TranscriptRequest{}, Transcripts: []Transcript{}}
	r, err := s.recorder(ctx, "see transcripts")
	if err != nil {
		return l, err
	}
	for _, q := range r.Requests() {
		l.Requests = append(l.Requests, requested(q))
	}
	for _, i := range r.List() {
		l.Transcripts = append(l.Transcripts, recorded(i))
	}
	return l, nil
}

// Transcript returns that of a session as far as it goes; fault.NotExist.
// Reading one is recorded in the trail.
func (s *Service) Transcript(ctx context.Context, session string) (Transcript, error) {
	r, err := s.recorder(ctx, "read transcripts")
	if err != nil {
		return Transcript{}, err
	}
	i, text, err := r.Read(session)
	if err != nil {
		return Transcript{}, err
	}
	s.note(ctx, events.Event{Kind: events.Transcript, Session: session, User: i.User, Detail: "read"})
	t := recorded(i)
	t.Text = text
	return t, nil
}

// StopTranscript takes a request back and ends what is recorded because of it;
// the transcripts stay. fault.NotExist.
func (s *Service) StopTranscript(ctx context.Context, id string) error {
	r, err := s.recorder(ctx, "end transcripts")
	if err != nil {
		return err
	}
	q, err := r.Stop(id)
	if err != nil {
		return err
	}
	s.note(ctx, events.Event{Kind: events.Transcript, Session: q.Session, User: q.User, Target: subject(q), Detail: "stopped (request " + q.ID + ")"})
	return nil
}

// RemoveTranscript removes that of a session; fault.NotExist.
func (s *Service) RemoveTranscript(ctx context.Context, session string) error {
	r, err := s.recorder(ctx, "remove transcripts")
	if err != nil {
		return err
	}
	if err := r.Remove(session); err != nil {
		return err
	}
	s.note(ctx, events.Event{Kind: events.Transcript, Session: session, Detail: "removed"})
	return nil
}
