package transcript

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/portreeve/portreeve/internal/fault"
)

// suffix is that of every file; the rest of the name is the session's id.
const suffix = ".txt"

// Info describes a transcript on the disk.
type Info struct {
	Session  string
	Request  string
	Protocol string
	Remote   string
	User     string // of the log-in, where the recording began with one
	By       string
	Begun    time.Time
	Octets   int64
	Running  bool
}

var errFull = errors.New("all transcripts together have reached their ceiling; remove old ones with: portreeve session transcript rm, or raise transcript.max_total")

// open begins the file of a session; mu is held.
func (r *Recorder) open(m *Meta, q *Request, now time.Time) (*Tape, error) {
	if !validID(m.Session) {
		return nil, fmt.Errorf("%q is no id of a session", m.Session)
	}
	lim := r.limits.Load()
	f, err := r.root.OpenFile(m.Session+suffix, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	i, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	t := &Tape{r: r, f: f, session: m.Session, request: q.ID, user: q.User, began: now, until: q.Until, size: i.Size()}
	var head strings.Builder
	if t.size > 0 { // recorded before, for an earlier request
		fmt.Fprintf(&head, "\nThe recording goes on at %s, asked for by %s (request %s).\n", now.UTC().Format(time.RFC3339), escape(q.By), q.ID)
	} else {
		head.WriteString("Transcript of a session, without secrets and contents of files\n")
		for _, l := range [][2]string{{"session", m.Session}, {"protocol", m.Protocol}, {"listener", m.Listener}, {"remote", m.Remote.String()}, {"local", m.Local.String()},
			{"user", m.User}, {"begun", now.UTC().Format(time.RFC3339Nano)}, {"until", q.Until.UTC().Format(time.RFC3339)}, {"request", q.ID}, {"asked by", q.By}} {
			fmt.Fprintf(&head, "%s: %s\n", l[0], escape(l[1]))
		}
		head.WriteString("Seconds since the beginning; > is from the client, < to it, - what the server notes.\n\n")
	}
	n := int64(head.Len()) + lastRoom
	switch {
	case r.used.Load()+n > lim.Total:
		err = errFull
	case t.size+n > lim.Session:
		err = errors.New("the transcript of this session has reached its ceiling, transcript.max_session")
	default:
		err = t.put(head.String())
	}
	if err != nil {
		f.Close()
		if i.Size() == 0 {
			r.root.Remove(m.Session + suffix)
		}
		return nil, err
	}
	return t, nil
}

// validID reports whether s can be the id of a session, and so a file name.
func validID(s string) bool {
	return len(s) >= 8 && len(s) <= 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// each calls fn for every transcript on the disk.
func (r *Recorder) each(fn func(name string, i fs.FileInfo)) {
	d, err := r.root.Open(".")
	if err != nil {
		r.log.Error("the directory of transcripts cannot be read", "err", err)
		return
	}
	defer d.Close()
	list, err := d.ReadDir(-1)
	if err != nil {
		r.log.Error("the directory of transcripts cannot be read", "err", err)
	}
	for _, e := range list {
		if id, is := strings.CutSuffix(e.Name(), suffix); is && validID(id) && e.Type().IsRegular() {
			if i, err := e.Info(); err == nil {
				fn(e.Name(), i)
			}
		}
	}
}

func (r *Recorder) measure() (sum int64) {
	r.each(func(_ string, i fs.FileInfo) { sum += i.Size() })
	return sum
}

func (r *Recorder) running(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tapes[strings.TrimSuffix(name, suffix)] != nil
}

// List returns the transcripts on the disk, oldest first.
func (r *Recorder) List() []Info {
	out := []Info{}
	r.each(func(name string, fi fs.FileInfo) {
		i := Info{Session: strings.TrimSuffix(name, suffix), Octets: fi.Size(), Running: r.running(name)}
		if f, err := r.root.Open(name); err == nil {
			i.read(f)
			f.Close()
		}
		out = append(out, i)
	})
	slices.SortFunc(out, func(a, b Info) int {
		if c := a.Begun.Compare(b.Begun); c != 0 {
			return c
		}
		return strings.Compare(a.Session, b.Session)
	})
	return out
}

// read takes the facts from the head of a file.
func (i *Info) read(f io.Reader) {
	s := bufio.NewScanner(io.LimitReader(f, 8<<10))
	for s.Scan() && s.Text() != "" {
		key, value, _ := strings.Cut(s.Text(), ": ")
		switch key {
		case "protocol":
			i.Protocol = value
		case "remote":
			i.Remote = value
		case "user":
			i.User = value
		case "request":
			i.Request = value
		case "asked by":
			i.By = value
		case "begun":
			i.Begun, _ = time.Parse(time.RFC3339Nano, value)
		}
	}
}

func missing(session string) error {
	return fault.Text(fault.NotExist, fmt.Sprintf("there is no transcript of a session %q; \"portreeve session transcript list\" shows what there is", session))
}

// Read returns a transcript as far as it goes. fault.NotExist.
func (r *Recorder) Read(session string) (Info, string, error) {
	if !validID(session) {
		return Info{}, "", missing(session)
	}
	f, err := r.root.Open(session + suffix)
	if errors.Is(err, fs.ErrNotExist) {
		return Info{}, "", missing(session)
	}
	if err != nil {
		return Info{}, "", fault.New(fault.Unavailable, "read a transcript", "", err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return Info{}, "", fault.New(fault.Unavailable, "read a transcript", "", err)
	}
	i := Info{Session: session, Octets: int64(len(b)), Running: r.running(session + suffix)}
	i.read(bytes.NewReader(b))
	return i, string(b), nil
}

// Remove ends and removes a transcript. fault.NotExist.
func (r *Recorder) Remove(session string) error {
	if !validID(session) {
		return missing(session)
	}
	r.mu.Lock()
	t := r.tapes[session]
	r.mu.Unlock()
	if t != nil {
		t.End("removed")
	}
	var size int64
	if i, err := r.root.Stat(session + suffix); err == nil {
		size = i.Size()
	}
	err := r.root.Remove(session + suffix)
	if errors.Is(err, fs.ErrNotExist) {
		return missing(session)
	}
	if err != nil {
		return fault.New(fault.Unavailable, "remove a transcript", "", err)
	}
	r.used.Add(-size)
	return nil
}
