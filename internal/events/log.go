package events

import (
	"context"
	"log/slog"

	"github.com/portreeve/portreeve/internal/fault"
)

// LogSubscriber returns the function that writes events to a log, for
// Subscription.Run: one line each, with the names every Portreeve log uses
// (proto listener session user remote path target bytes took code err). Good
// ends are info, listings debug; failures are warn when an operator may have to
// look (log-ins, refusals, bans, data connections, a full quota) and error when
// storage or the program is at fault.
func LogSubscriber(logger *slog.Logger) func(Event) {
	return func(e Event) {
		level := levelOf(e)
		ctx := context.Background()
		if !logger.Enabled(ctx, level) {
			return
		}
		attrs := make([]slog.Attr, 0, 14)
		text := func(key, v string) {
			if v != "" {
				attrs = append(attrs, slog.String(key, v))
			}
		}
		attrs = append(attrs, slog.String("event", string(e.Kind)))
		text("node", e.Node)
		text("proto", e.Protocol)
		text("listener", e.Listener)
		text("session", e.Session)
		text("user", e.User)
		text("remote", e.Remote)
		text("path", e.Path)
		text("target", e.Target)
		if e.Bytes != 0 || e.Kind == Upload || e.Kind == Download {
			attrs = append(attrs, slog.Int64("bytes", e.Bytes))
		}
		if e.Took != 0 {
			attrs = append(attrs, slog.Duration("took", e.Took))
		}
		attrs = append(attrs, slog.String("code", ResultOf(e.Fault)))
		if e.Fault != fault.None {
			text("err", e.Detail)
		} else {
			text("detail", e.Detail)
		}
		logger.LogAttrs(ctx, level, message(e), attrs...)
	}
}

var messages = map[Kind][2]string{ // good end, failure
	Login: {"logged in", "log-in failed"}, LoginFailed: {"log-in failed", "log-in failed"}, Logout: {"logged out", "session ended by a failure"},
	Refused: {"connection refused", "connection refused"},
	Upload:  {"file uploaded", "upload failed"}, Download: {"file downloaded", "download failed"},
	Listing: {"directory listed", "listing failed"},
	Delete:  {"file deleted", "delete failed"}, Rename: {"renamed", "rename failed"},
	Mkdir: {"directory made", "making a directory failed"}, Rmdir: {"directory removed", "removing a directory failed"},
	Attr: {"attributes changed", "changing attributes failed"}, Copy: {"file copied", "copy failed"}, Link: {"link made", "making a link failed"},
	QuotaFull: {"quota is used up", "quota is used up"}, DataFailed: {"data connection failed", "data connection failed"},
	Kick: {"session kicked", "kick failed"}, Ban: {"banned", "ban failed"}, UserChanged: {"account changed", "account change failed"},
	ConfigLoad: {"configuration loaded", "configuration refused"}, Start: {"server started", "server start failed"}, Stop: {"server stopped", "server stop failed"},
	AddressChanged: {"the announced address has changed", "the announced address is not known"}, PortMapped: {"router mapping", "router mapping failed"},
	HookDead: {"delivery to a hook given up", "delivery to a hook given up"}, TaskRun: {"task done", "task failed"},
	Transcript: {"transcript of a session", "transcript of a session"},
}

func message(e Event) string {
	m, ok := messages[e.Kind]
	switch {
	case !ok:
		return string(e.Kind)
	case e.Fault != fault.None:
		return m[1]
	}
	return m[0]
}

func levelOf(e Event) slog.Level {
	switch e.Fault {
	case fault.Internal, fault.Unavailable, fault.NoSpace:
		return slog.LevelError
	}
	switch e.Kind {
	case LoginFailed, Refused, QuotaFull, DataFailed, Ban, Kick, HookDead:
		return slog.LevelWarn
	case Listing:
		return slog.LevelDebug
	case Login, ConfigLoad, Start, Stop, PortMapped, TaskRun:
		if e.Fault != fault.None {
			return slog.LevelWarn
		}
	}
	return slog.LevelInfo
}
