package memfs

import (
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

// node is a file, directory or link. FS.mu guards all but the content, which
// has its own lock so that transfers do not hold up the tree.
type node struct {
	fs      *FS
	inode   uint64
	mode    fs.FileMode
	links   uint32
	target  string           // of a link, relative
	kids    map[string]*node // of a directory
	up      *node            // of a directory that has a name
	gone    bool             // a directory that was removed
	busy    bool             // an upload in place holds it
	pending int              // unfinished hidden uploads into a directory

	data struct {
		sync.RWMutex
		pages    [][]byte // each at most pageSize long; what is missing reads as zeros
		size     int64
		opens    int
		unlinked bool
	}
	times sync.Mutex
	mtime time.Time
}

const pageSize = 64 << 10

func (n *node) add(base string, k *node) {
	n.kids[base] = k
	if k.mode.IsDir() {
		k.up = n
	}
	n.touch()
}

func (n *node) touch() { n.setTime(time.Now()) }

func (n *node) setTime(t time.Time) {
	n.times.Lock()
	n.mtime = t
	n.times.Unlock()
}

func (n *node) info(base string) vfs.Info {
	i := vfs.Info{Name: base, Mode: n.mode, Links: n.links, Dev: 1, Inode: n.inode, Size: n.size()}
	n.times.Lock()
	i.ModTime = n.mtime
	n.times.Unlock()
	switch {
	case n.mode&fs.ModeSymlink != 0:
		i.Target, i.Size = n.target, int64(len(n.target))
	case n.mode.IsDir():
		i.Links = 2
		for _, k := range n.kids {
			if k.mode.IsDir() {
				i.Links++
			}
		}
	}
	return i
}

func (n *node) size() int64 {
	n.data.RLock()
	defer n.data.RUnlock()
	return n.data.size
}

// open and close count who uses the content, so that the room of a removed
// file comes back with its last user, as on a disk.
func (n *node) open() {
	n.data.Lock()
	n.data.opens++
	n.data.Unlock()
}

func (n *node) close() {
	n.data.Lock()
	n.data.opens--
	n.free()
	n.data.Unlock()
}

// release says that no name leads here any more.
func (n *node) release() {
	n.data.Lock()
	n.data.unlinked = true
	n.free()
	n.data.Unlock()
}

func (n *node) free() {
	if n.data.unlinked && n.data.opens <= 0 {
		n.fs.used.Add(-n.data.size)
		n.data.size, n.data.pages = 0, nil
	}
}

func (n *node) readAt(p []byte, off int64) (int, error) {
	n.data.RLock()
	defer n.data.RUnlock()
	if off >= n.data.size {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	want := len(p)
	p = p[:min(int64(len(p)), n.data.size-off)]
	for done := 0; done < len(p); {
		at, in := (off+int64(done))/pageSize, int((off+int64(done))%pageSize)
		part := p[done:min(len(p), done+pageSize-in)]
		got := 0
		if at < int64(len(n.data.pages)) && in < len(n.data.pages[at]) {
			got = copy(part, n.data.pages[at][in:])
		}
		clear(part[got:])
		done += len(part)
	}
	if len(p) < want {
		return len(p), io.EOF
	}
	return len(p), nil
}

// writeAt writes all of p, or as much as the capacity allows with fault.NoSpace.
func (n *node) writeAt(p []byte, off int64) (int, error) {
	n.data.Lock()
	defer n.data.Unlock()
	if off < 0 || off+int64(len(p)) < off {
		return 0, fault.New(fault.Invalid, "write", "", errNegative)
	}
	var err error
	if grow := off + int64(len(p)) - n.data.size; grow > 0 && len(p) > 0 {
		got := n.take(grow)
		if got < grow {
			err = fault.New(fault.NoSpace, "write", "", errFull)
			p = p[:max(0, int64(len(p))-(grow-got))]
			if len(p) == 0 {
				n.fs.used.Add(-got) // a gap alone is not worth keeping
				return 0, err
			}
		}
		n.data.size += got
	}
	for done := 0; done < len(p); {
		at, in := (off+int64(done))/pageSize, int((off+int64(done))%pageSize)
		part := p[done:min(len(p), done+pageSize-in)]
		for int64(len(n.data.pages)) <= at {
			n.data.pages = append(n.data.pages, nil)
		}
		pg := n.data.pages[at]
		if in > len(pg) {
			pg = append(pg, make([]byte, in-len(pg))...)
		}
		over := copy(pg[in:], part)
		n.data.pages[at] = append(pg, part[over:]...)
		done += len(part)
	}
	n.touch()
	return len(p), err
}

// take reserves up to want bytes of the capacity.
func (n *node) take(want int64) int64 {
	for {
		used := n.fs.used.Load()
		got := want
		if n.fs.capacity > 0 {
			got = max(0, min(want, n.fs.capacity-used))
		}
		if n.fs.used.CompareAndSwap(used, used+got) {
			return got
		}
	}
}

func (n *node) truncate(size int64) error {
	n.data.Lock()
	defer n.data.Unlock()
	switch {
	case size < 0:
		return fault.New(fault.Invalid, "truncate", "", errNegative)
	case size > n.data.size:
		grow := size - n.data.size
		if got := n.take(grow); got < grow {
			n.fs.used.Add(-got)
			return fault.New(fault.NoSpace, "truncate", "", errFull)
		}
	default:
		n.fs.used.Add(size - n.data.size)
		full := int(size / pageSize)
		if full < len(n.data.pages) {
			pg := n.data.pages[full]
			n.data.pages[full] = pg[:min(int64(len(pg)), size%pageSize)]
			clear(n.data.pages[full+1:])
			n.data.pages = n.data.pages[:full+1]
		}
	}
	n.data.size = size
	n.touch()
	return nil
}
