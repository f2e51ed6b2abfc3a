package sshd

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/limits"
	"github.com/portreeve/portreeve/internal/session"
	"github.com/portreeve/portreeve/internal/vfs"
	"github.com/portreeve/portreeve/internal/vfs/memfs"
)

// anybody lets everybody in.
type anybody struct{}

func (anybody) Verify(_ context.Context, _ auth.Origin, c auth.Credential) (auth.Identity, error) {
	return auth.Identity{User: account.User{Name: "ann", Home: "/h", Rules: []account.Rule{{Path: "/", Rights: account.All}}}}, nil
}

func memorySession(t testing.TB) *session.Session {
	fs := memfs.New()
	m := session.NewManager(session.Config{}, anybody{}, func(context.Context, account.Mount, account.Policy) (vfs.FS, error) { return fs, nil }, limits.New(limits.Config{}), nil)
	g, err := m.Connect(context.Background(), originOf("192.0.2.1:9"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := g.Login(context.Background(), passwordOf("ann"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close(nil) })
	return s
}

// stream is what a client sends, and what it is sent.
type stream struct {
	io.Reader
	io.Writer
}

func packet(t byte, fields ...[]byte) []byte {
	b := slices.Concat(append([][]byte{{0, 0, 0, 0, t}}, fields...)...)
	putU32(b, uint32(len(b)-4))
	return b
}

// FuzzPackets feeds whole conversations: nothing may panic or hang, and every
// answer is a well-formed packet.
func FuzzPackets(f *testing.F) {
	one, h := u32(1), str("\x00\x00\x00\x00\x00\x00\x00\x01")
	hello := packet(fxpInit, u32(3))
	seeds := [][]byte{
		{}, hello,
		slices.Concat(hello, packet(fxpOpen, one, str("/a"), u32(openWrite|openCreate|openTrunc), u32(0)), packet(fxpWrite, one, h, u64(0), str("text")),
			packet(fxpFsetstat, one, h, u32(attrPerm|attrTimes), u32(0o4755), u32(1), u32(2)), packet(fxpClose, one, h)),
		slices.Concat(hello, packet(fxpOpen, one, str("/a"), u32(openRead|openWrite|openCreate), u32(attrSize|attrUIDGID), u64(1), u32(0), u32(0)),
			packet(fxpWrite, one, h, u64(5), str("text")), packet(fxpRead, one, h, u64(0), u32(1<<31)), packet(fxpFstat, one, h)),
		slices.Concat(hello, packet(fxpMkdir, one, str("/d"), u32(0)), packet(fxpOpendir, one, str("/")), packet(fxpReaddir, one, h), packet(fxpReaddir, one, h)),
		slices.Concat(hello, packet(fxpSymlink, one, str("a"), str("/l")), packet(fxpReadlink, one, str("/l")), packet(fxpRealpath, one, str("../..")),
			packet(fxpRename, one, str("/l"), str("/m")), packet(fxpRemove, one, str("/m")), packet(fxpRmdir, one, str("/d"))),
		slices.Concat(hello, packet(fxpStat, one, str("/")), packet(fxpLstat, one, str("/")), packet(fxpSetstat, one, str("/"), u32(1<<31|15), make([]byte, 40))),
	}
	for name := range extended {
		seeds = append(seeds, slices.Concat(hello, packet(fxpOpen, one, str("/a"), u32(openWrite|openCreate), u32(0)),
			packet(fxpExtended, one, str(name), h, u64(0), u64(4), h, u64(100))),
			slices.Concat(hello, packet(fxpExtended, one, str(name), str("/"), str("md5"), u64(0), u64(0), u32(0))))
	}
	for _, s := range seeds {
		f.Add(s)
	}
	log := slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		x := newSFTP(memorySession(t), stream{bytes.NewReader(in), &out}, log)
		x.serve()
		if len(x.handles.open) != 0 || len(x.pending) != 0 {
			t.Error("files are left open")
		}
		for b := out.Bytes(); len(b) > 0; {
			d := decoder{b: b}
			n := d.u32()
			p := d.take(int(n))
			if d.bad || n < 5 || n > maxPacket+64 {
				t.Fatalf("an answer of %d octets in %d", n, len(b))
			}
			switch p[0] {
			case fxpVersion, fxpStatus, fxpHandle, fxpData, fxpName, fxpAttrs, fxpExtendedReply:
			default:
				t.Fatalf("an answer of type %d", p[0])
			}
			b = d.b
		}
	})
}

func FuzzWords(f *testing.F) {
	f.Add(`scp -f 'a b' "c\"d" e\ f *`)
	f.Fuzz(func(t *testing.T, line string) {
		ws, err := words(line)
		if err != nil {
			return
		}
		n := 0
		for _, w := range ws {
			n += len(w.text)
		}
		if n > len(line) {
			t.Errorf("%q grew", line)
		}
		// What was quoted comes back as it was.
		if !strings.ContainsRune(line, '\'') {
			if back, err := words("'" + line + "'"); err != nil || len(back) != 1 || back[0].text != line {
				t.Errorf("%q quoted is %v, %v", line, back, err)
			}
		}
	})
}
