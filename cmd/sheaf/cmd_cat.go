package main

import (
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

func (a *app) catCmd() *cobra.Command {
	var span, at string
	c := &cobra.Command{
		Use:   "cat PATH...",
		Short: "Print the bytes of files",
		Example: `  sheaf cat /notes.txt
  sheaf cat /film.mkv --range 0-1M
  sheaf cat /notes.txt --at "2h ago"`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			var off, n int64
			if span != "" {
				var err error
				if off, n, err = parseRange(span); err != nil {
					return usagef("", "%w", err)
				}
			}
			if anyRemote(args) {
				if at != "" {
					return errPast
				}
				return a.catPlaces(ctx, args, off, n)
			}
			return a.withDrive(ctx, args, func(s *session, ps []place) error {
				for _, p := range ps {
					st, err := s.Files.Read(ctx, &sheafv1.ReadRequest{Path: p.wire(), At: pick(moment(at, time.Now()), p), Offset: off, Length: n})
					if err == nil {
						err = pour(a.out, st)
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	c.Flags().StringVar(&span, "range", "", "only these bytes: `FROM-TO` (TO is not in it), FROM- or FROM+LENGTH, as in 0-1M")
	c.Flags().StringVar(&at, "at", "", "as it was at a `time` or snapshot")
	return c
}

// pour writes the bytes that a stream yields, and closes it.
func pour[M interface{ GetData() []byte }](w io.Writer, st interface {
	Receive() bool
	Msg() M
	Err() error
	Close() error
},
) error {
	defer func() { _ = st.Close() }()
	for st.Receive() {
		if _, err := w.Write(st.Msg().GetData()); err != nil {
			return err
		}
	}
	return st.Err()
}
