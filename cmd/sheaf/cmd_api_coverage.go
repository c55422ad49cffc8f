package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/rest"
)

// verbs is by which verb a person does what a call does. A test holds that each verb is there, and that its code makes the call.
var verbs = map[string]string{
	"Drives/Status": "status", "Drives/Init": "init", "Drives/Unlock": "up", "Drives/Wait": "wait", "Drives/Stop": "stop", "Drives/Doctor": "doctor", "Drives/Version": "version",
	"Files/Stat": "ls", "Files/List": "ls", "Files/Read": "cat", "Files/Write": "cp", "Files/Mkdir": "mkdir", "Files/Move": "mv",
	"Files/Remove": "rm", "Files/DiskUsage": "du", "Files/History": "history",
	"Snapshots/Create": "snapshot create", "Snapshots/List": "snapshot list", "Snapshots/Diff": "snapshot diff", "Snapshots/Drop": "snapshot rm",
	"Mounts/Mount": "mount", "Mounts/Unmount": "umount", "Mounts/List": "status", "Store/Stats": "store stats",
	"Keys/SetPassphrase": "key passphrase", "Keys/NewRecovery": "key recovery", "Keys/RetireRecovery": "key recovery",
	"Jobs/Start": "cp", "Jobs/List": "job list", "Jobs/Watch": "job watch", "Jobs/Cancel": "job cancel", "Jobs/Resume": "job resume",
	"Replicas/Add": "replica add", "Replicas/List": "replica list", "Replicas/Remove": "replica rm", "Replicas/Sync": "replica sync",
	"Conflicts/List": "conflict list", "Conflicts/Keep": "conflict keep",
	"Remotes/Kinds": "remote kinds", "Remotes/List": "remote list", "Remotes/Get": "remote show", "Remotes/Add": "remote add", "Remotes/Edit": "remote edit",
	"Remotes/Remove": "remote rm", "Remotes/Test": "remote test", "Remotes/StartSignIn": "remote auth", "Remotes/FinishSignIn": "remote auth", "Remotes/Import": "remote import",
	"Devices/List": "device list", "Devices/Revoke": "device revoke", "Devices/Rename": "device rename", "Devices/Trust": "device trust", "Devices/Vouch": "device vouch",
	"Identities/ListKeys": "key list", "Identities/MakeKey": "key new", "Identities/ImportKeys": "key import", "Identities/ExportKey": "key export", "Identities/FindKeys": "key find",
	"Identities/VerifyKey": "key verify", "Identities/VerifySignature": "key verify", "Identities/TrustKey": "key trust", "Identities/CertifyKey": "key certify", "Identities/RevokeKey": "key revoke",
	"Identities/ForgetKey": "key forget",
	"Custody/Where":        "status", "Custody/Pins": "pin list", "Custody/Unpin": "unpin",
	"Tokens/Create": "token create", "Tokens/List": "token list", "Tokens/Revoke": "token revoke", "Events/Watch": "events",
	"Places/List": "ls", "Places/Read": "cat", "Places/Copy": "cp", "Places/Move": "mv", "Places/Remove": "rm", "Places/Check": "check",
	"Rules/Add": "sync add", "Rules/List": "sync list", "Rules/Run": "sync run", "Rules/Preview": "sync run", "Rules/Pause": "sync pause", "Rules/Resume": "sync resume",
	"Rules/Edit": "sync edit", "Rules/Remove": "sync rm", "Rules/Explain": "sync explain", "Rules/Conflicts": "sync conflicts", "Rules/Dismiss": "sync conflicts", "Rules/Accept": "sync accept",
	"Folders/Add": "folder add", "Folders/List": "folder list", "Folders/Remove": "folder rm", "Folders/ReadSyncthing": "folder import",
	"Settings/List": "config get", "Settings/Set": "config set",
	"Rules/Ignored": "ignore test", "Rules/ConvertIgnore": "ignore import",
	"Doors/Serve": "serve webdav", "Doors/ListServing": "serve list", "Doors/StopServing": "serve stop",
	"Peers/ListPeers": "device peers", "Peers/SetReach": "device reach", "Peers/Invite": "invite", "Peers/WaitInvite": "invite", "Peers/Join": "join", "Peers/AcceptJoin": "join",
	"Doors/CreateAppPassword": "apppassword create", "Doors/ListAppPasswords": "apppassword list", "Doors/RevokeAppPassword": "apppassword revoke",
}

// forPrograms are calls that no person makes, and why.
var forPrograms = map[string]string{
	"Files/Upload": "sheaf cp goes on by itself where it was cut off",
}

// uncovered returns the calls of the contract that no verb of the tree makes, in order.
func uncovered(root *cobra.Command) (missing []string, all int) {
	seen := map[string]bool{}
	for _, r := range rest.Routes() {
		call := strings.TrimPrefix(r.Procedure, "/sheaf.v1.")
		if seen[call] {
			continue
		}
		seen[call] = true
		if verb := verbs[call]; forPrograms[call] == "" && (verb == "" || !hasVerb(root, verb)) {
			missing = append(missing, call)
		}
	}
	slices.Sort(missing)
	return missing, len(seen)
}

// hasVerb reports whether the tree has a verb, as in "token create".
func hasVerb(root *cobra.Command, verb string) bool {
	c, rest, err := root.Find(strings.Fields(verb))
	return err == nil && len(rest) == 0 && c.CommandPath() == root.Name()+" "+verb && c.Runnable()
}

func (a *app) apiCoverageCmd() *cobra.Command {
	return &cobra.Command{
		Use: "coverage", Short: "Say which calls of the API no verb makes", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			missing, all := uncovered(cmd.Root())
			if a.json {
				if err := a.record(coverageRecord{"coverage", all, append([]string{}, missing...), sortedKeys(forPrograms)}); err != nil {
					return err
				}
			}
			if len(missing) > 0 {
				for _, call := range missing {
					a.say("%s", call)
				}
				return coded(sheafv1.Code_CODE_PARTIAL, "", "%d of %d calls have no verb", len(missing), all)
			}
			a.say("%d calls, and none without a verb", all-len(forPrograms))
			for call, why := range forPrograms {
				a.say("%s is for programs only: %s", call, why)
			}
			return nil
		},
	}
}
