package ftpd

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
)

// TestEveryKindHasItsReply walks all kinds: none may be forgotten, and the
// codes are those of the table in architecture.md section 5.
func TestEveryKindHasItsReply(t *testing.T) {
	want := map[fault.Kind]int{
		fault.Invalid: 501, fault.NameRefused: 553, fault.NotExist: 550, fault.Exist: 550, fault.WrongType: 550, fault.Denied: 550,
		fault.Login: 530, fault.Quota: 552, fault.TooLarge: 552, fault.NoSpace: 452, fault.Busy: 450, fault.Limit: 450, fault.Range: 554,
		fault.Unsupported: 502, fault.Canceled: 426, fault.Unavailable: 451, fault.Stopping: 421, fault.Internal: 451,
	}
	guest := map[fault.Kind]int{fault.Limit: 421, fault.Denied: 530, fault.Canceled: 421, fault.Unavailable: 421, fault.Busy: 421, fault.Internal: 421}
	for _, k := range fault.Kinds() {
		if _, ok := want[k]; !ok {
			t.Errorf("%s: this test names no code for it", k)
		}
		cause := fault.New(k, "open", "/secret/host/path", errors.New("raw detail of Go"))
		for p, codes := range map[phase]map[fault.Kind]int{phaseUser: nil, phaseGuest: guest} {
			code := want[k]
			if c, ok := codes[k]; ok {
				code = c
			}
			name := "/pub/a.txt"
			if p == phaseGuest {
				name = ""
			}
			got, _ := answerTo(cause, p, name)
			if got.Code != code {
				t.Errorf("%s in phase %d: code %d, want %d", k, p, got.Code, code)
			}
			for _, leak := range []string{"secret", "raw detail", "NAME", "%!", "fault", k.String() + ":"} {
				if strings.Contains(got.Message, leak) {
					t.Errorf("%s: %q contains %q", k, got.Message, leak)
				}
			}
			if len(got.Message) < 20 || !strings.HasSuffix(got.Message, ".") {
				t.Errorf("%s: %q is no sentence", k, got.Message)
			}
			if p == phaseUser && k != fault.Login && k != fault.Stopping && !strings.HasPrefix(got.Message, name+": ") {
				t.Errorf("%s: %q does not name the file", k, got.Message)
			}
		}
	}
}

func TestSentencesOfLimitsReachTheClient(t *testing.T) {
	tests := []struct {
		err  error
		p    phase
		code int
		text string
	}{
		{fault.Text(fault.Limit, "you have your maximum of 3 sessions; close one first"), phaseGuest, 421, "You have your maximum of 3 sessions; close one first."},
		{fault.Wrap("create", "/a", fault.Text(fault.Quota, "12 bytes are left of your quota")), phaseUser, 552, "12 bytes are left of your quota."},
		{fault.Text(fault.Unavailable, "sql: database is locked"), phaseUser, 451, "/a: the storage does not answer; try again later."},
		{fault.Text(fault.Login, "the account is disabled"), phaseGuest, 530, "Log-in failed: user name or password is wrong, or this account may not log in this way."},
		{&fs.PathError{Op: "open", Path: "/srv/x", Err: syscall.ENOSPC}, phaseUser, 452, "/a: the server's disk is full; nothing more can be stored until the administrator makes room."},
		{errors.New("boom"), phaseUser, 451, "/a: the server failed to carry this out; the administrator finds the details in the log."},
	}
	for _, tt := range tests {
		got, _ := answerTo(tt.err, tt.p, "/a")
		if got.Code != tt.code || got.Message != tt.text {
			t.Errorf("%v: %d %q, want %d %q", tt.err, got.Code, got.Message, tt.code, tt.text)
		}
	}
}

func TestRefusalKeepsTheCause(t *testing.T) {
	b := &Backend{opt: Options{Log: slog.New(slog.DiscardHandler)}}
	err := b.refuse(fault.New(fault.NotExist, "stat", "/x", fs.ErrNotExist), phaseUser, "stat", "/x")
	var fe *ftp.Error
	if !errors.As(err, &fe) || fe.Code != 550 {
		t.Fatalf("no reply in %v", err)
	}
	if !errors.Is(err, fs.ErrNotExist) || fault.KindOf(err) != fault.NotExist {
		t.Errorf("the cause is lost: %v", err)
	}
	if again := b.refuse(err, phaseUser, "stat", "/y"); again != err {
		t.Error("a refusal was refused again")
	}
	if b.refuse(nil, phaseUser, "stat", "/x") != nil {
		t.Error("nil became an error")
	}
}

func TestEndedClassifies(t *testing.T) {
	for _, tt := range []struct {
		in   error
		want fault.Kind
	}{
		{nil, fault.None},
		{errors.New("ftp: idle timeout"), fault.Canceled},
		{fmt.Errorf("%w: nil map", ftp.ErrPanic), fault.Internal},
		{&ftp.Error{Code: 426, Message: "aborted"}, fault.Canceled},
		{syscall.ENOSPC, fault.Canceled}, // of the control connection; a storage wraps it
		{fault.Text(fault.Stopping, "stopping"), fault.Stopping},
		{&refusal{reply: &ftp.Error{Code: 552}, cause: fault.Text(fault.Quota, "full")}, fault.Quota},
	} {
		if got := fault.KindOf(ended(tt.in)); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.in, got, tt.want)
		}
	}
}

func TestPermFact(t *testing.T) {
	for _, tt := range []struct {
		r    account.Rights
		mode fs.FileMode
		want string
	}{
		{account.All, 0, "adfrw"},
		{account.All, fs.ModeDir, "cdeflmp"},
		{account.ReadOnly, 0, "r"},
		{account.ReadOnly, fs.ModeDir, "el"},
		{0, 0, ""},
		{0, fs.ModeDir, "e"},
		{account.Upload | account.List, fs.ModeDir, "cel"},
		{account.Upload | account.List, 0, ""}, // a drop box: files that exist cannot be touched
		{account.Rmdir, fs.ModeDir, "dep"},
	} {
		if got := permFact(tt.r, tt.mode); got != tt.want {
			t.Errorf("%b %v: %q, want %q", tt.r, tt.mode, got, tt.want)
		}
	}
}

func TestAcceptsHost(t *testing.T) {
	local := netip.MustParseAddr("192.0.2.7")
	some := []string{"ftp.example.org", "*.example.net"}
	for _, tt := range []struct {
		hosts []string
		name  string
		want  bool
	}{
		{nil, "whatever", true},
		{some, "FTP.example.org", true},
		{some, "ftp.example.org.", true},
		{some, "a.example.net", true},
		{some, "a.b.example.net", false},
		{some, "example.net", false},
		{some, ".example.net", false},
		{some, "evil.org", false},
		{some, "192.0.2.7", true},
		{some, "[192.0.2.7]", true},
		{some, "192.0.2.8", false},
	} {
		if got := acceptsHost(tt.hosts, tt.name, local); got != tt.want {
			t.Errorf("%v %q: %v", tt.hosts, tt.name, got)
		}
	}
}
