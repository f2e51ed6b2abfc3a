package server

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
	"github.com/portreeve/portreeve/internal/vfs/localfs"
)

// Measure counts the regular files below a directory of the host, for the
// quota. Links are not followed and unfinished uploads do not count.
func Measure(ctx context.Context, source string) (bytes, files int64, err error) {
	if strings.HasPrefix(source, memoryPrefix) {
		return 0, 0, nil // a new process begins with an empty memory
	}
	if !filepath.IsAbs(source) {
		return 0, 0, fault.New(fault.Unsupported, "count files", "", fmt.Errorf("%q is not a directory of this machine", source))
	}
	f, err := localfs.New(filepath.Clean(source), localfs.Options{})
	if err != nil {
		return 0, 0, fmt.Errorf("cannot count the files in %s: %w", source, err)
	}
	defer f.Close()
	return measure(ctx, f)
}

func measure(ctx context.Context, f vfs.FS) (bytes, files int64, err error) {
	todo := []string{"/"}
	for len(todo) > 0 {
		dir := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for i, err := range f.List(ctx, dir) {
			switch {
			case fault.KindOf(err) == fault.NotExist: // removed meanwhile
			case err != nil:
				return 0, 0, err
			case i.Mode.IsRegular():
				bytes, files = bytes+i.Size, files+1
			case i.IsDir():
				todo = append(todo, path.Join(dir, i.Name))
			}
		}
	}
	return bytes, files, nil
}

// Measure counts like the function of that name, and knows this server's
// storages in memory, too.
func (s *Server) Measure(ctx context.Context, source string) (bytes, files int64, err error) {
	if name, ok := strings.CutPrefix(source, memoryPrefix); ok && name != "" {
		s.storages.mu.Lock()
		f := s.storages.memory[name]
		s.storages.mu.Unlock()
		if f == nil {
			return 0, 0, nil
		}
		return measure(ctx, f)
	}
	return Measure(ctx, source)
}
