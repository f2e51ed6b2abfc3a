package store

import (
	"context"
	"database/sql"
	"sync"
)

// preparedMax bounds the statements kept; queries put together at run time
// (lists with filters) beyond it are compiled each time, as without a cache.
const preparedMax = 64

// prepared keeps compiled statements of the readers: compiling costs several
// times what running a look-up by key does.
type prepared struct {
	mu     sync.Mutex
	of     map[string]*sql.Stmt // nil while it is being prepared
	closed bool
	wg     sync.WaitGroup
}

// get returns the statement, or nil when there is none yet. A new one is
// prepared beside the caller: that takes a connection, and the caller, who has
// one, must not wait for another while others do the same.
func (p *prepared) get(pool *sql.DB, query string) *sql.Stmt {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, known := p.of[query]
	if known || p.closed || len(p.of) >= preparedMax {
		return s
	}
	if p.of == nil {
		p.of = make(map[string]*sql.Stmt)
	}
	p.of[query] = nil
	p.wg.Go(func() {
		s, err := pool.PrepareContext(context.Background(), query)
		if err != nil {
			return // running it says what is wrong
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.closed {
			s.Close()
			return
		}
		p.of[query] = s
	})
	return nil
}

func (p *prepared) close() {
	p.mu.Lock()
	p.closed = true
	for _, s := range p.of {
		if s != nil {
			s.Close()
		}
	}
	p.of = nil
	p.mu.Unlock()
}

// readTx is a transaction of a reader that runs prepared statements.
type readTx struct {
	*sql.Tx
	db *DB
}

func (t readTx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if s := t.db.statements.get(t.db.read, query); s != nil {
		return t.StmtContext(ctx, s).QueryContext(ctx, args...)
	}
	return t.Tx.QueryContext(ctx, query, args...)
}

func (t readTx) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if s := t.db.statements.get(t.db.read, query); s != nil {
		return t.StmtContext(ctx, s).QueryRowContext(ctx, args...)
	}
	return t.Tx.QueryRowContext(ctx, query, args...)
}
