package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/cmd/sheaf/settings"
)

func (a *app) configCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "config", Short: "What is set of this device: bandwidth by the hour, the cache and more", Args: cobra.NoArgs, RunE: needsVerb,
		Long: "What can be set:\n\n" + settingsHelp(),
		Example: `  sheaf config set bandwidth 1MiB:off
  sheaf config set bandwidth "08:00,512KiB 18:00,off"
  sheaf config get cache-size`,
	}
	c.AddCommand(a.configGetCmd(), a.configSetCmd(), a.configUnsetCmd(), a.configPathCmd())
	return c
}

// settingsHelp tells of all settings.
func settingsHelp() string {
	var b strings.Builder
	for _, s := range settings.All {
		b.WriteString("  " + s.Key + " (default " + s.Default + "; " + s.Variable() + ")\n")
		for line := range strings.SplitSeq(s.Help, "\n") {
			b.WriteString("      " + line + "\n")
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// settingKeys completes the first argument of a verb.
func settingKeys(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var keys []string
	for _, s := range settings.All {
		if len(args) == 0 {
			short, _, _ := strings.Cut(s.Help, "\n")
			keys = append(keys, s.Key+"\t"+short)
		}
	}
	return keys, cobra.ShellCompDirectiveNoFileComp
}

// sources are where values come from, in words.
var sources = map[sheafv1.SettingSource]string{
	sheafv1.SettingSource_SETTING_SOURCE_DEFAULT: "default", sheafv1.SettingSource_SETTING_SOURCE_FILE: "set",
	sheafv1.SettingSource_SETTING_SOURCE_ENVIRONMENT: "environment",
}

func (a *app) configGetCmd() *cobra.Command {
	return &cobra.Command{
		Use: "get [KEY]", Short: "Show what holds, of one or of all", Args: cobra.MaximumNArgs(1), ValidArgsFunction: settingKeys,
		Long: `Show what holds, of one or of all: in the daemon, if one runs, whose environment and command line go before the configuration.
With a key, only the value is printed.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withSettings(cmd.Context(), func(resp *sheafv1.SettingsListResponse) error {
				if len(args) == 0 {
					if a.json {
						return a.object("", resp)
					}
					rows := [][]string{{"key", "value", "from", "what it is"}}
					for _, x := range resp.GetSettings() {
						short, _, _ := strings.Cut(x.GetHelp(), "\n")
						rows = append(rows, []string{x.GetKey(), printable(x.GetValue()), sources[x.GetSource()], short})
					}
					return a.table(rows)
				}
				for _, x := range resp.GetSettings() {
					if x.GetKey() != args[0] {
						continue
					}
					if a.json {
						return a.object("", x)
					}
					_, err := a.out.Write([]byte(x.GetValue() + "\n"))
					return err
				}
				return coded(sheafv1.Code_CODE_NOT_FOUND, "sheaf config get", "there is no setting %q", args[0])
			})
		},
	}
}

func (a *app) configSetCmd() *cobra.Command {
	return &cobra.Command{
		Use: "set KEY VALUE", Short: "Set one", Args: cobra.ExactArgs(2), ValidArgsFunction: settingKeys,
		Example: "  sheaf config set bandwidth \"Mon-08:00,1MiB Fri-18:00,off\"\n  sheaf config set cache-size 20GiB",
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[1] == "" {
				return usagef("sheaf config unset "+args[0], "no value")
			}
			return a.changeSetting(cmd.Context(), args[0], args[1])
		},
	}
}

func (a *app) configUnsetCmd() *cobra.Command {
	return &cobra.Command{
		Use: "unset KEY", Short: "Take one back, so that its default holds", Args: cobra.ExactArgs(1), ValidArgsFunction: settingKeys,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeSetting(cmd.Context(), args[0], "")
		},
	}
}

func (a *app) configPathCmd() *cobra.Command {
	return &cobra.Command{
		Use: "path", Short: "Print where the configuration is", Args: cobra.NoArgs,
		Long: "Print where the configuration is: a file that may be edited while no daemon runs. sheaf writes it anew when something is set, without comments.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withSettings(cmd.Context(), func(resp *sheafv1.SettingsListResponse) error {
				if a.json {
					return a.object("", &sheafv1.SettingsListResponse{Path: resp.GetPath()})
				}
				_, err := a.out.Write([]byte(resp.GetPath() + "\n"))
				return err
			})
		},
	}
}

// withSettings calls f with all settings.
func (a *app) withSettings(ctx context.Context, f func(resp *sheafv1.SettingsListResponse) error) error {
	return a.withSession(ctx, func(s *session) error {
		resp, err := s.Settings.List(ctx, &sheafv1.SettingsListRequest{})
		if err != nil {
			return err
		}
		return f(resp)
	})
}

// changeSetting sets one, or takes it back, and says from when on that holds.
func (a *app) changeSetting(ctx context.Context, key, value string) error {
	return a.withSession(ctx, func(s *session) error {
		resp, err := s.Settings.Set(ctx, &sheafv1.SettingsSetRequest{Key: key, Value: value})
		if err != nil {
			return err
		}
		x := resp.GetSetting()
		if a.json {
			return a.object("", x)
		}
		switch {
		case x.GetSource() == sheafv1.SettingSource_SETTING_SOURCE_ENVIRONMENT:
			a.say("%s stays %s: %s, or the command line, goes before the configuration", x.GetKey(), printable(x.GetValue()), x.GetVariable())
		case s.daemon && !x.GetLive():
			a.say("%s is %s from the next start of the daemon: sheaf stop, sheaf up", x.GetKey(), printable(x.GetValue()))
		default:
			a.say("%s is %s", x.GetKey(), printable(x.GetValue()))
		}
		return nil
	})
}
