package ftp

import (
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"runtime"
	"strings"
)

type hashKind struct {
	name string
	new  func() hash.Hash
}

// hashes are what HASH offers; the first is the default (draft-bryan-ftpext-hash).
var hashes = []hashKind{
	{"SHA-256", sha256.New},
	{"SHA-512", sha512.New},
	{"SHA-1", sha1.New},
	{"MD5", md5.New},
	{"CRC32", func() hash.Hash { return crc32.NewIEEE() }},
}

var xhashes = map[string]func() hash.Hash{
	"XCRC": hashes[4].new, "XMD5": md5.New, "XSHA": sha1.New, "XSHA1": sha1.New, "XSHA256": sha256.New, "XSHA512": sha512.New,
}

// hashFeature is the FEAT line of HASH: the chosen algorithm carries a star.
func hashFeature(chosen int) string {
	var b strings.Builder
	b.WriteString("HASH ")
	for i, h := range hashes {
		if i > 0 {
			b.WriteByte(';')
		}
		b.WriteString(h.name)
		if i == chosen {
			b.WriteByte('*')
		}
	}
	return b.String()
}

// digest runs a hash over bytes first to end (exclusive, -1: end of file) on
// a goroutine of its own, so that ABOR can end it, and replies with say.
func (c *Conn) digest(verb, arg string, h hash.Hash, first, end int64, say func(sum []byte, last int64) Reply) Reply {
	name := c.abs(arg)
	info, err := c.sess.Stat(c.ctx, name)
	switch {
	case err != nil:
		return refusal(err, shown(arg))
	case info.IsDir():
		return ok(553, "%s: a directory has no hash.", shown(arg))
	case !info.Mode.IsRegular():
		return ok(550, "%s: not a plain file.", shown(arg))
	case first > info.Size || end > info.Size:
		return ok(501, "%s: the range goes beyond the end of the file at %d bytes.", shown(arg), info.Size)
	}
	c.begin(verb, name, func(t *transfer) Reply {
		t.size = info.Size
		src, err := c.sess.Open(t.ctx, name, first)
		if err != nil {
			return refusal(err, shown(arg))
		}
		limit := int64(-1)
		if end >= 0 {
			limit = end - first
		}
		n, err := t.consume(h, limited(src, limit))
		src.Close(err)
		if t.ctx.Err() != nil {
			return ok(426, "%s ended, as ABOR asked.", verb)
		}
		if err != nil {
			return refusal(err, shown(arg))
		}
		return say(h.Sum(nil), first+n)
	})
	return Reply{}
}

// hashing has one place for each block that is hashed at a time, over all servers.
var hashing = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))

// consume feeds src to h. Those who hash take turns block by block on half of
// the processors, so that any number of hashes, of files of any size, leaves
// the rest to log-ins and transfers.
func (t *transfer) consume(h hash.Hash, src io.Reader) (int64, error) {
	buf := blocks.Get().(*[]byte)
	defer blocks.Put(buf)
	for {
		if err := t.ctx.Err(); err != nil {
			return t.moved.Load(), context.Cause(t.ctx)
		}
		n, err := src.Read(*buf) // may wait for bandwidth or a disk: not with a place taken
		select {
		case hashing <- struct{}{}:
		case <-t.ctx.Done():
			return t.moved.Load(), context.Cause(t.ctx)
		}
		h.Write((*buf)[:n])
		<-hashing
		t.moved.Add(int64(n))
		if err == io.EOF {
			return t.moved.Load(), nil
		}
		if err != nil {
			return t.moved.Load(), err
		}
	}
}

func countTo(ctx context.Context, r io.Reader, most int64) (int64, error) {
	buf := blocks.Get().(*[]byte)
	defer blocks.Put(buf)
	return io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(ctxReader{ctx, r}, most), *buf)
}

// ctxReader ends a read loop when its context does.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (r ctxReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}

// cmdHASH answers "213 algorithm first-last hash path" for the range of RANG
// or REST, last being included in the range.
func (c *Conn) cmdHASH(arg string) Reply {
	p := c.takePending()
	first, end := p.rest, int64(-1)
	if p.rangeEnd > 0 {
		first, end = p.rangeStart, p.rangeEnd
	}
	k := hashes[c.hash]
	return c.digest("HASH", arg, k.new(), first, end, func(sum []byte, last int64) Reply {
		return ok(213, "%s %d-%d %s %s", k.name, first, max(last-1, first), hex.EncodeToString(sum), shown(arg))
	})
}

// hashCommand makes XCRC and its kin: "XCRC name [first [end]]", the name in
// double quotes where it holds spaces; end is exclusive, as in the servers
// that invented them.
func hashCommand(verb string) func(c *Conn, arg string) Reply {
	return func(c *Conn, arg string) Reply {
		name, first, end, valid := c.hashArg(arg)
		if !valid {
			return ok(501, "%s takes a file, and perhaps a first and an end byte.", verb)
		}
		return c.digest(verb, name, xhashes[verb](), first, end, func(sum []byte, _ int64) Reply {
			return ok(250, "%s", strings.ToUpper(hex.EncodeToString(sum)))
		})
	}
}

func (c *Conn) hashArg(arg string) (name string, first, end int64, valid bool) {
	if !strings.HasPrefix(arg, `"`) {
		if _, err := c.sess.Stat(c.ctx, c.abs(arg)); err == nil {
			return arg, 0, -1, true
		}
	}
	words, good := splitQuoted(arg)
	if !good || len(words) == 0 {
		return "", 0, 0, false
	}
	// Numbers at the end are the range; what stands before is the name, with
	// its spaces even where a client left out the quotes.
	var nums []int64
	for len(words) > 1 && len(nums) < 2 {
		n, is := number(words[len(words)-1])
		if !is {
			break
		}
		nums = append([]int64{n}, nums...)
		words = words[:len(words)-1]
	}
	name, end = strings.Join(words, " "), -1
	if len(nums) > 0 {
		first = nums[0]
	}
	if len(nums) > 1 && nums[1] > 0 {
		end = nums[1]
	}
	return name, first, end, end < 0 || end >= first
}

func (c *Conn) cmdMD5(arg string) Reply {
	name := arg
	if words, good := splitQuoted(arg); good && len(words) == 1 {
		name = words[0]
	}
	return c.digest("MD5", name, md5.New(), 0, -1, func(sum []byte, _ int64) Reply {
		return ok(251, "%s %s", shown(arg), strings.ToUpper(fmt.Sprintf("%x", sum)))
	})
}
