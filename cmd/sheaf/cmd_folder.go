package main

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
	"github.com/sheaf-drive/sheaf/sync/merge/ignore"
)

func (a *app) folderCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "folder", Short: "Keep plain folders alike on your devices",
		Long: `A folder is kept alike on all devices that have it: it lies in the drive, as Folders/NAME, and each device keeps a plain folder of its own
like that, by a rule (sheaf sync list). A device that has it not sees it in the drive all the same, and fetches what is opened there.`,
		Args: cobra.NoArgs, RunE: needsVerb,
	}
	c.AddCommand(a.folderAddCmd(), a.folderListCmd(), a.folderRemoveCmd(), a.folderImportCmd())
	return c
}

// roles are those of a folder, as they are given.
var folderRoles = map[string]sheafv1.FolderRole{
	"full": sheafv1.FolderRole_FOLDER_ROLE_FULL, "read-only": sheafv1.FolderRole_FOLDER_ROLE_READ_ONLY, "send-only": sheafv1.FolderRole_FOLDER_ROLE_SEND_ONLY,
}

func (a *app) folderAddCmd() *cobra.Command {
	q := &sheafv1.FoldersAddRequest{}
	var role, name string
	c := &cobra.Command{
		Use: "add DIR", Short: "Keep a folder alike on all devices that have it",
		Long: `Keeps DIR alike with the folder of the same name on all devices that have it. Either is made if it is not there.

With --role read-only what the others change comes here, and with send-only what changes here goes to them; what changes on the other side stays
there and is not undone. --ignore leaves out what this device is not to have: nothing of it is removed anywhere.

Where both have something already this asks for --merge: then what one has and the other has not goes over, and where contents differ both stay.`,
		Example: "  sheaf folder add ~/Documents\n  sheaf folder add /srv/photos --name Photos --role read-only --ignore '/raw/'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			var known bool
			if q.Role, known = folderRoles[role]; !known {
				return usagef("", "--role is full, read-only or send-only")
			}
			if q.Dir, err = filepath.Abs(args[0]); err != nil {
				return err
			}
			if q.Name = ""; name != "" {
				q.Name = wirepath.Encode(name)
			}
			return a.with(cmd.Context(), func(s *session) error {
				f, err := s.Folders.Add(cmd.Context(), q)
				if err != nil {
					return err
				}
				if a.json {
					return a.object("folder", f)
				}
				a.say("%s", a.folderLine(f))
				if s.daemon {
					a.next(false, "sheaf folder list")
				} else {
					a.say("no daemon runs: it has turns by itself as soon as one does")
					a.next(false, "sheaf sync run %s", f.GetRule().GetName())
				}
				return nil
			})
		},
	}
	f := c.Flags()
	f.StringVar(&name, "name", "", "what it is `called` on all devices (default the last name of DIR)")
	f.StringVar(&role, "role", "full", "what this device does with it: `full`, read-only or send-only")
	f.StringArrayVar(&q.Ignore, "ignore", nil, "a `line` as in a .gitignore, of what this device leaves out; may be given again")
	f.BoolVar(&q.Merge, "merge", false, "put together what is here and what is in the drive already")
	f.BoolVar(&q.Paused, "paused", false, "no turns before sheaf sync resume")
	return c
}

// folderLine says in a line where a folder is.
func (a *app) folderLine(f *sheafv1.Folder) string {
	name := printable(a.name(f.GetName()))
	if f.GetDir() == "" {
		return name + ": not on this device"
	}
	line := name + ": " + printable(f.GetDir())
	for word, role := range folderRoles {
		if role == f.GetRole() && role != sheafv1.FolderRole_FOLDER_ROLE_FULL {
			line += ", " + word
		}
	}
	return line
}

func (a *app) folderListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "Say which folders there are, and where they are on this device", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(s *session) error {
				resp, err := s.Folders.List(cmd.Context(), &sheafv1.FoldersListRequest{})
				if err != nil {
					return err
				}
				next := "sheaf folder add DIR"
				for _, f := range resp.GetFolders() {
					if a.json {
						if err := a.object("folder", f); err != nil {
							return err
						}
						continue
					}
					line := a.folderLine(f)
					if f.GetRule() != nil {
						line += "\n  " + a.ruleLine(f.GetRule())
					} else {
						next = "sheaf folder add DIR --name " + printable(a.name(f.GetName()))
					}
					a.say("%s", line)
				}
				if !a.json {
					a.next(false, "%s", next)
				}
				return nil
			})
		},
	}
}

func (a *app) folderRemoveCmd() *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME|DIR", Short: "Keep a folder of this device alike no longer; all files stay",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(s *session) error {
				ctx := cmd.Context()
				resp, err := s.Folders.Remove(ctx, &sheafv1.FoldersRemoveRequest{Folder: wirepath.Encode(args[0])})
				if err != nil && explain(err).Code == sheafv1.Code_CODE_NOT_FOUND {
					var dir string
					if dir, err = filepath.Abs(args[0]); err == nil {
						resp, err = s.Folders.Remove(ctx, &sheafv1.FoldersRemoveRequest{Folder: dir})
					}
				}
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", resp)
				}
				a.say("%s is kept alike no longer; what is in it stays, here and in the drive", printable(args[0]))
				a.next(false, "sheaf folder list")
				return nil
			})
		},
	}
}

func (a *app) folderImportCmd() *cobra.Command {
	var syncthing, merge, dry bool
	c := &cobra.Command{
		Use: "import --syncthing [CONFIG.XML]", Short: "Take the folders of Syncthing over: exit 3 if some were not",
		Long: `Takes the folders of Syncthing on this machine over, with their names, their roles, and what they leave out (a .stignore is written anew as a ` + ignore.Name + `).
Syncthing and its files stay as they are; stop it, for two that keep a folder alike at the same time give each other work.

A folder whose .stignore has lines without a counterpart is taken over paused. Where the drive has a folder of the name already, and something is in both, it is
left out unless --merge is given.`,
		Example: "  sheaf folder import --syncthing -n\n  sheaf folder import --syncthing ~/.config/syncthing/config.xml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !syncthing {
				return usagef("", "say from what: --syncthing")
			}
			text, err := a.syncthingConf(args)
			if err != nil {
				return err
			}
			home, err := os.UserHomeDir()
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), func(s *session) error {
				resp, err := s.Folders.ReadSyncthing(cmd.Context(), &sheafv1.FoldersReadSyncthingRequest{Config: text, Home: home})
				if err != nil {
					return err
				}
				left := 0
				for _, f := range resp.GetFolders() {
					f.GetAdd().Merge = merge
					added, err := a.importFolder(cmd.Context(), s, f, dry)
					if err != nil {
						e := explain(err)
						if f.Skipped = e.Error(); e.Hint != "" {
							f.Skipped += " (" + e.Hint + ")"
						}
					}
					if f.GetSkipped() != "" {
						left++
					}
					if err := a.importedFolder(f, added, dry); err != nil {
						return err
					}
				}
				if left > 0 {
					return coded(sheafv1.Code_CODE_PARTIAL, "sheaf folder add DIR", "%d folders were not taken over", left)
				}
				if !dry {
					a.next(false, "sheaf folder list")
				}
				return nil
			})
		},
	}
	f := c.Flags()
	f.BoolVar(&syncthing, "syncthing", false, "from Syncthing")
	f.BoolVar(&merge, "merge", false, "put together what is here and what is in the drive already")
	f.BoolVarP(&dry, "dry-run", "n", false, "only say what would be taken over")
	return c
}

// syncthingConf reads the configuration of Syncthing that is named, or the one that is where Syncthing has it.
func (a *app) syncthingConf(args []string) ([]byte, error) {
	places := args
	if len(args) == 0 {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, err
		}
		switch runtime.GOOS {
		case "windows":
			places = []string{filepath.Join(a.getenv("LOCALAPPDATA"), "Syncthing", "config.xml")}
		case "darwin":
			places = []string{filepath.Join(home, "Library", "Application Support", "Syncthing", "config.xml")}
		default: // as its documentation says, the newer first
			places = []string{
				filepath.Join(cmp.Or(a.getenv("XDG_STATE_HOME"), filepath.Join(home, ".local", "state")), "syncthing", "config.xml"),
				filepath.Join(cmp.Or(a.getenv("XDG_CONFIG_HOME"), filepath.Join(home, ".config")), "syncthing", "config.xml"),
			}
		}
	}
	for _, name := range places {
		text, err := readConf(name, "Syncthing")
		if len(args) == 0 && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		return text, err
	}
	return nil, coded(sheafv1.Code_CODE_NOT_FOUND, "sheaf folder import --syncthing CONFIG.XML", "there is no configuration of Syncthing at %s", places[len(places)-1])
}

// importFolder takes one folder over. What it leaves out is written before the folder is kept: nothing of that goes over meanwhile.
func (a *app) importFolder(ctx context.Context, s *session, f *sheafv1.SyncthingFolder, dry bool) (*sheafv1.Folder, error) {
	if f.GetSkipped() != "" {
		return nil, nil
	}
	dir := f.GetAdd().GetDir()
	if i, err := os.Stat(dir); err != nil || !i.IsDir() {
		return nil, coded(sheafv1.Code_CODE_NOT_FOUND, "", "the folder %s is not there", dir)
	}
	q, err := stignore(filepath.Join(dir, ".stignore"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		lines, err := s.Rules.ConvertIgnore(ctx, q)
		if err != nil {
			return nil, err
		}
		if n := len(lines.GetLeft()); n > 0 {
			f.GetAdd().Paused = true
			for _, l := range lines.GetLeft() {
				f.Notes = append(f.GetNotes(), "has no counterpart, and so the folder is paused: "+l)
			}
		}
		if !dry {
			to := filepath.Join(dir, ignore.Name)
			if have, err := os.ReadFile(to); err == nil && string(have) == lines.GetText() {
				break // of an earlier try
			}
			if err := writeNew(to, lines.GetText()); err != nil {
				return nil, err
			}
		}
	}
	if dry {
		return nil, nil
	}
	return s.Folders.Add(ctx, f.GetAdd())
}

// importedFolder tells what became of a folder.
func (a *app) importedFolder(f *sheafv1.SyncthingFolder, added *sheafv1.Folder, dry bool) error {
	if a.json {
		return a.object("folder", f)
	}
	name := printable(a.name(f.GetAdd().GetName()))
	switch {
	case f.GetSkipped() != "":
		a.say("%s: not taken over: %s", name, printable(f.GetSkipped()))
	case dry:
		a.say("%s", a.folderLine(&sheafv1.Folder{Name: f.GetAdd().GetName(), Dir: f.GetAdd().GetDir(), Role: f.GetAdd().GetRole()}))
	default:
		a.say("%s", a.folderLine(added))
	}
	for _, n := range f.GetNotes() {
		a.say("  %s", printable(n))
	}
	return nil
}
