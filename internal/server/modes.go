package server

import (
	"fmt"
	"os"
)

// openToOthers says who besides the server's user may write to the data
// directory, "" when nobody may. Whoever may can exchange the database with
// its accounts, or the keys.
func openToOthers(dir string) string {
	fi, err := os.Stat(dir)
	switch {
	case err != nil:
		return ""
	case fi.Mode()&0o002 != 0:
		return "everybody on this machine"
	case fi.Mode()&0o020 != 0:
		return "its group"
	}
	return ""
}

// warnOpenDir is a warning and no refusal: the mode bits of volumes that
// containers and networks provide are often made up.
func (s *Server) warnOpenDir() {
	if who := openToOthers(s.dataDir); who != "" {
		s.log.Warn(fmt.Sprintf("the data directory can be written by %s, who could exchange the accounts and keys in it; run: chmod 700 %s", who, s.dataDir), "data_dir", s.dataDir)
	}
}
