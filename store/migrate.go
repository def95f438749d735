package store

import (
	"context"
	"embed"
	"io/fs"
	"math"

	"github.com/pressly/goose/v3"

	"github.com/homeward-dr/homeward"
)

//go:embed migrations/*.sql
var migrations embed.FS

// newest stands for the newest schema this program knows.
const newest = math.MaxInt64

// migrate brings the schema to the given version. One that this program does not
// know is refused: an older program would drop what a newer one added.
func (s *Store) migrate(ctx context.Context, version int64) error {
	current, known, err := s.schema(ctx)
	if err != nil {
		return err
	}
	if version == newest {
		version = known
	}
	if needed := max(current, version); needed > known {
		return homeward.Errorf("migrate store", homeward.Unsupported, s.where, "use the newer homeward that wrote it",
			"its schema is version %d, and this program knows %d", needed, known)
	}
	provider, err := s.provider()
	if err != nil {
		return err
	}
	_, err = provider.UpTo(ctx, version)
	return s.failed("migrate store", err)
}

// schema is the version of the schema, 0 when there are no tables, and the newest
// that this program knows.
func (s *Store) schema(ctx context.Context) (current, known int64, err error) {
	provider, err := s.provider()
	if err != nil {
		return 0, 0, err
	}
	current, known, err = provider.GetVersions(ctx)
	return current, known, s.failed("read schema", err)
}

// provider runs the migrations. It is not to be closed: that would close the
// database.
func (s *Store) provider() (*goose.Provider, error) {
	dialect := goose.DialectSQLite3
	if s.kind == PostgreSQL {
		dialect = goose.DialectPostgres
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, s.failed("read migrations", err)
	}
	p, err := goose.NewProvider(dialect, s.writer, files, goose.WithDisableGlobalRegistry(true))
	return p, s.failed("read migrations", err)
}
