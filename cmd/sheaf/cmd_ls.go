package main

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

func (a *app) lsCmd() *cobra.Command {
	var long, recursive bool
	var at string
	c := &cobra.Command{
		Use:   "ls [PATH...]",
		Short: "List what is in the drive, or at a place",
		Long: `Lists a directory of the drive, the root if none is named, or of a place such as nas:photos. With -l: mode, size, time, where
the content is, and name. The letters: L on this device, R some of it at replicas only, P pinned and
on this device, Q on its way to a replica that does not have all of it yet; "-" is no file.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if len(args) == 0 {
				args = []string{drivePrefix}
			}
			if anyRemote(args) {
				if at != "" {
					return errPast
				}
				return a.listPlaces(ctx, args, long, recursive)
			}
			return a.withDrive(ctx, args, func(s *session, ps []place) error {
				w := bufio.NewWriterSize(a.out, 64<<10)
				for i, p := range ps {
					if len(ps) > 1 && !a.json && i > 0 {
						_, _ = fmt.Fprintln(w)
					}
					if len(ps) > 1 && !a.json {
						_, _ = fmt.Fprintf(w, "%s:\n", args[i])
					}
					r := &sheafv1.ListRequest{Path: p.wire(), At: pick(moment(at, time.Now()), p), Recursive: recursive, Places: long}
					if err := a.list(ctx, s, r, p, long, w); err != nil {
						_ = w.Flush()
						return err
					}
				}
				return w.Flush()
			})
		},
	}
	f := c.Flags()
	f.BoolVarP(&long, "long", "l", false, "with mode, size, time and state")
	f.BoolVarP(&recursive, "recursive", "R", false, "all below it")
	f.StringVar(&at, "at", "", "as it was at a `time` or snapshot")
	return c
}

// list prints one directory, or one node that is none.
func (a *app) list(ctx context.Context, s *session, r *sheafv1.ListRequest, p place, long bool, w *bufio.Writer) error {
	st, err := s.Files.List(ctx, r)
	if err != nil {
		return err
	}
	defer func() { _ = st.Close() }()
	for st.Receive() {
		for _, n := range st.Msg().GetNodes() {
			if a.json {
				var b app
				b.out = w
				if err := b.object("node", n); err != nil {
					return err
				}
				continue
			}
			name := n.GetPath()
			if rest, ok := strings.CutPrefix(name, p.wire()+"/"); ok && p.path != "" {
				name = rest
			} else if name == p.wire() {
				name = path.Base(name)
			}
			if err := a.listLine(w, n, a.name(name), long); err != nil {
				return err
			}
		}
	}
	return st.Err()
}

// listLine prints one node.
func (a *app) listLine(w *bufio.Writer, n *sheafv1.Node, name string, long bool) error {
	if n.GetType() == sheafv1.Kind_KIND_DIR {
		name += "/"
	}
	if !long {
		_, err := fmt.Fprintln(w, name)
		return err
	}
	if n.GetTarget() != "" {
		name += " -> " + a.name(n.GetTarget())
	}
	size := a.size(n.GetSize())
	if n.GetType() != sheafv1.Kind_KIND_FILE {
		size = "-"
	}
	_, err := fmt.Fprintf(w, "%s  %10s  %s  %s  %s\n", modeText(n), size, n.GetModified().AsTime().Local().Format("2006-01-02 15:04"), placeLetter(n), name)
	return err
}

// placeLetter is where the content of a node is, in one letter.
func placeLetter(n *sheafv1.Node) string {
	if n.GetType() == sheafv1.Kind_KIND_DIR && n.GetPinned() {
		return "P"
	}
	switch n.GetPlace() {
	case sheafv1.Place_PLACE_REMOTE:
		return "R"
	case sheafv1.Place_PLACE_LOCAL:
		return "L"
	case sheafv1.Place_PLACE_PINNED:
		return "P"
	case sheafv1.Place_PLACE_QUEUED:
		return "Q"
	}
	return "-"
}

// modeText is how ls(1) shows a mode.
func modeText(n *sheafv1.Node) string {
	b := []byte(fs.FileMode(n.GetMode() & 0o777).String())
	b[0] = map[sheafv1.Kind]byte{
		sheafv1.Kind_KIND_DIR: 'd', sheafv1.Kind_KIND_LINK: 'l', sheafv1.Kind_KIND_FIFO: 'p',
		sheafv1.Kind_KIND_SOCKET: 's', sheafv1.Kind_KIND_CHAR: 'c', sheafv1.Kind_KIND_BLOCK: 'b',
	}[n.GetType()]
	if b[0] == 0 {
		b[0] = '-'
	}
	for _, s := range []struct {
		bit      uint32
		at       int
		on, lone byte
	}{{0o4000, 3, 's', 'S'}, {0o2000, 6, 's', 'S'}, {0o1000, 9, 't', 'T'}} {
		switch {
		case n.GetMode()&s.bit == 0:
		case b[s.at] == 'x':
			b[s.at] = s.on
		default:
			b[s.at] = s.lone
		}
	}
	return string(b)
}
