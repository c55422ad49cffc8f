package provider

import (
	"strings"

	rclone "github.com/rclone/rclone/fs"

	"github.com/sheaf-drive/sheaf/sync/remote"
)

// options turns what rclone's registry says of a backend into options.
func options(b *backend, info *rclone.RegInfo) []remote.Option {
	var all []remote.Option
	for i := range info.Options {
		o := &info.Options[i]
		def := o.String()
		if d, ok := b.defaults[o.Name]; ok {
			def = d
		}
		all = append(all, remote.Option{
			Name: o.Name, Help: strings.TrimSpace(o.Help), Required: o.Required, Secret: isSecret(o), Obscured: o.IsPassword,
			Advanced: o.Advanced || o.Hide&rclone.OptionHideConfigurator != 0, Only: o.Provider, Default: def, Examples: examples(o),
		})
	}
	return all
}

func examples(o *rclone.Option) []remote.Example {
	var all []remote.Example
	for _, e := range o.Examples {
		all = append(all, remote.Example{Value: e.Value, Help: e.Help, Only: e.Provider})
	}
	return all
}

// isSecret reports whether nobody is to see the value. rclone calls sensitive, too, what tells of a person but opens nothing,
// such as the name of a host; a list of remotes without those would be of no use to that person.
func isSecret(o *rclone.Option) bool {
	return o.IsPassword || o.Sensitive && !noSecret[o.Name]
}

// noSecret are options that rclone calls sensitive, and that are the names of persons, machines and things.
var noSecret = map[string]bool{
	"account": true, "client_id": true, "domain": true, "drive_id": true, "host": true, "impersonate": true, "impersonate_admin": true, "namenode": true,
	"project_number": true, "root_folder_id": true, "service_principal_name": true, "spn": true, "team_drive": true, "tenant": true, "tenant_domain": true,
	"tenant_id": true, "user": true, "user_id": true, "user_project": true, "username": true, "workstation": true,
}
