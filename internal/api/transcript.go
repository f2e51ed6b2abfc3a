package api

import (
	"context"
	"net/http"
	"net/url"

	"github.com/portreeve/portreeve/internal/admin"
)

// transcriptRoutes are the calls of this file.
func (h *handler) transcriptRoutes() []route {
	const ok, made, none = http.StatusOK, http.StatusCreated, http.StatusNoContent
	return []route{
		{"listTranscripts", "GET", "/v1/transcripts", "List the transcripts of sessions, and what is asked for", admin.ScopeSessions, nil, nil, admin.TranscriptList{}, ok, false, h.listTranscripts},
		{"createTranscript", "POST", "/v1/transcripts", "Record a live session, or the next ones of an account or network, for a limited time", admin.ScopeSessions, nil, admin.NewTranscript{}, admin.TranscriptRequest{}, made, false, h.askTranscript},
		{"getTranscript", "GET", "/v1/transcripts/{session}", "Show the transcript of a session", admin.ScopeSessions, nil, nil, admin.Transcript{}, ok, false, h.showTranscript},
		{"deleteTranscript", "DELETE", "/v1/transcripts/{session}", "Remove the transcript of a session", admin.ScopeSessions, nil, nil, nil, none, false, h.removeTranscript},
		{"stopTranscript", "DELETE", "/v1/transcripts/requests/{id}", "End a request for transcripts; what was recorded stays", admin.ScopeSessions, nil, nil, nil, none, false, h.stopTranscript},
	}
}

func (h *handler) listTranscripts(w http.ResponseWriter, r *http.Request) error {
	l, err := h.admin.Transcripts(r.Context())
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, l)
}

func (h *handler) askTranscript(w http.ResponseWriter, r *http.Request) error {
	var n admin.NewTranscript
	if err := read(r, &n); err != nil {
		return err
	}
	q, err := h.admin.AskTranscript(r.Context(), n)
	if err != nil {
		return err
	}
	return write(w, http.StatusCreated, q)
}

func (h *handler) showTranscript(w http.ResponseWriter, r *http.Request) error {
	t, err := h.admin.Transcript(r.Context(), r.PathValue("session"))
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, t)
}

func (h *handler) removeTranscript(w http.ResponseWriter, r *http.Request) error {
	if err := h.admin.RemoveTranscript(r.Context(), r.PathValue("session")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *handler) stopTranscript(w http.ResponseWriter, r *http.Request) error {
	if err := h.admin.StopTranscript(r.Context(), r.PathValue("id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// Transcripts is admin.Service.Transcripts on the server.
func (c *Client) Transcripts(ctx context.Context) (l admin.TranscriptList, err error) {
	err = c.call(ctx, "GET", "/v1/transcripts", nil, nil, &l)
	return l, err
}

// AskTranscript is admin.Service.AskTranscript on the server.
func (c *Client) AskTranscript(ctx context.Context, n admin.NewTranscript) (q admin.TranscriptRequest, err error) {
	err = c.call(ctx, "POST", "/v1/transcripts", nil, n, &q)
	return q, err
}

// Transcript is admin.Service.Transcript on the server.
func (c *Client) Transcript(ctx context.Context, session string) (t admin.Transcript, err error) {
	err = c.call(ctx, "GET", "/v1/transcripts/"+url.PathEscape(session), nil, nil, &t)
	return t, err
}

// RemoveTranscript is admin.Service.RemoveTranscript on the server.
func (c *Client) RemoveTranscript(ctx context.Context, session string) error {
	return c.call(ctx, "DELETE", "/v1/transcripts/"+url.PathEscape(session), nil, nil, nil)
}

// StopTranscript is admin.Service.StopTranscript on the server.
func (c *Client) StopTranscript(ctx context.Context, id string) error {
	return c.call(ctx, "DELETE", "/v1/transcripts/requests/"+url.PathEscape(id), nil, nil, nil)
}
