package access

import (
	"google.golang.org/protobuf/proto"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

// A Need is what a call needs.
type Need struct {
	// Writes says that it changes something.
	Writes bool
	// Socket says that it is for callers over the unix socket only: it touches files of this machine, gives or takes
	// secrets, or decides who comes in or whether anybody does.
	Socket bool
	// SocketIf says so of some messages.
	SocketIf func(m proto.Message) bool
	// Anyone says that every token may: it tells nothing of the drive.
	Anyone bool
	// Paths are those that a message names, as the contract has them; nil: the call is about more than some paths,
	// and nothing for a token of one folder.
	Paths func(m proto.Message) []string
	// Below says that the folder of the token itself is none that it may name.
	Below bool
}

// path is Need.Paths of messages with one path.
func path(m proto.Message) []string { return []string{m.(interface{ GetPath() string }).GetPath()} }

// Needs is what each call of the contract needs, by its procedure. A test holds it complete.
var Needs = map[string]Need{
	"/sheaf.v1.Drives/Status":  {},
	"/sheaf.v1.Drives/Init":    {Socket: true, Writes: true},
	"/sheaf.v1.Drives/Unlock":  {Socket: true, Writes: true},
	"/sheaf.v1.Drives/Wait":    {Writes: true}, // it commits
	"/sheaf.v1.Drives/Stop":    {Socket: true, Writes: true},
	"/sheaf.v1.Drives/Doctor":  {},
	"/sheaf.v1.Drives/Version": {Anyone: true},

	"/sheaf.v1.Files/Stat":      {Paths: path},
	"/sheaf.v1.Files/List":      {Paths: path},
	"/sheaf.v1.Files/Read":      {Paths: path},
	"/sheaf.v1.Files/Upload":    {Paths: path, Below: true},
	"/sheaf.v1.Files/DiskUsage": {Paths: path},
	"/sheaf.v1.Files/Mkdir":     {Writes: true, Paths: path},
	"/sheaf.v1.Files/Move": {Writes: true, Below: true, Paths: func(m proto.Message) []string {
		r := m.(*sheafv1.MoveRequest)
		return []string{r.GetFrom(), r.GetTo()}
	}},
	"/sheaf.v1.Files/Remove": {Writes: true, Below: true, Paths: func(m proto.Message) []string {
		r := m.(*sheafv1.RemoveRequest)
		if r.GetPath() == "" {
			return r.GetPaths()
		}
		return append([]string{r.GetPath()}, r.GetPaths()...)
	}},
	"/sheaf.v1.Files/Write": {Writes: true, Below: true, Paths: func(m proto.Message) []string {
		if s := m.(*sheafv1.WriteRequest).GetStart(); s != nil {
			return []string{s.GetPath()}
		}
		return nil
	}},
	"/sheaf.v1.Files/History": {}, // the snapshots in it speak of the whole drive

	"/sheaf.v1.Snapshots/Create": {Writes: true},
	"/sheaf.v1.Snapshots/List":   {},
	"/sheaf.v1.Snapshots/Diff":   {},
	"/sheaf.v1.Snapshots/Drop":   {Writes: true},

	"/sheaf.v1.Mounts/Mount":   {Socket: true, Writes: true},
	"/sheaf.v1.Mounts/Unmount": {Socket: true, Writes: true},
	"/sheaf.v1.Mounts/List":    {},

	"/sheaf.v1.Store/Stats": {},

	"/sheaf.v1.Keys/SetPassphrase":  {Socket: true, Writes: true},
	"/sheaf.v1.Keys/NewRecovery":    {Socket: true, Writes: true},
	"/sheaf.v1.Keys/RetireRecovery": {Socket: true, Writes: true},

	"/sheaf.v1.Jobs/Start": {Writes: true, SocketIf: func(m proto.Message) bool {
		switch m.(*sheafv1.StartRequest).GetWork().(type) {
		case *sheafv1.StartRequest_Import, *sheafv1.StartRequest_Export, *sheafv1.StartRequest_ReplicaCopy, *sheafv1.StartRequest_Rule:
			return true
		}
		return false
	}},
	"/sheaf.v1.Jobs/List":   {},
	"/sheaf.v1.Jobs/Watch":  {},
	"/sheaf.v1.Jobs/Cancel": {Writes: true},
	"/sheaf.v1.Jobs/Resume": {Socket: true, Writes: true}, // it may be one that reads this machine's files

	"/sheaf.v1.Replicas/Add":    {Socket: true, Writes: true},
	"/sheaf.v1.Replicas/List":   {},
	"/sheaf.v1.Replicas/Remove": {Socket: true, Writes: true},
	"/sheaf.v1.Replicas/Sync":   {Writes: true},

	"/sheaf.v1.Conflicts/List": {},
	"/sheaf.v1.Conflicts/Keep": {Writes: true},

	"/sheaf.v1.Remotes/Kinds":        {},
	"/sheaf.v1.Remotes/List":         {},
	"/sheaf.v1.Remotes/Get":          {},
	"/sheaf.v1.Remotes/Add":          {Socket: true, Writes: true},
	"/sheaf.v1.Remotes/Edit":         {Socket: true, Writes: true},
	"/sheaf.v1.Remotes/Remove":       {Socket: true, Writes: true},
	"/sheaf.v1.Remotes/Test":         {Socket: true, Writes: true},
	"/sheaf.v1.Remotes/StartSignIn":  {Socket: true, Writes: true},
	"/sheaf.v1.Remotes/FinishSignIn": {Socket: true, Writes: true},
	"/sheaf.v1.Remotes/Import":       {Socket: true, Writes: true},

	"/sheaf.v1.Devices/List":   {},
	"/sheaf.v1.Devices/Revoke": {Socket: true, Writes: true},
	"/sheaf.v1.Devices/Rename": {Socket: true, Writes: true},
	"/sheaf.v1.Devices/Trust":  {Socket: true, Writes: true},
	"/sheaf.v1.Devices/Vouch":  {Socket: true, Writes: true},

	"/sheaf.v1.Identities/ListKeys":        {},
	"/sheaf.v1.Identities/MakeKey":         {Socket: true, Writes: true},
	"/sheaf.v1.Identities/ImportKeys":      {Socket: true, Writes: true},
	"/sheaf.v1.Identities/ExportKey":       {Socket: true, Writes: true}, // it may be the secret key
	"/sheaf.v1.Identities/FindKeys":        {Socket: true, Writes: true}, // it may ask servers, which then know whom one looks for
	"/sheaf.v1.Identities/VerifyKey":       {Socket: true, Writes: true},
	"/sheaf.v1.Identities/VerifySignature": {Socket: true},
	"/sheaf.v1.Identities/TrustKey":        {Socket: true, Writes: true},
	"/sheaf.v1.Identities/CertifyKey":      {Socket: true, Writes: true},
	"/sheaf.v1.Identities/RevokeKey":       {Socket: true, Writes: true},
	"/sheaf.v1.Identities/ForgetKey":       {Socket: true, Writes: true},

	"/sheaf.v1.Custody/Where": {Paths: path},
	"/sheaf.v1.Custody/Pins":  {},
	"/sheaf.v1.Custody/Unpin": {Writes: true},

	"/sheaf.v1.Doors/Serve":             {Socket: true, Writes: true},
	"/sheaf.v1.Doors/ListServing":       {},
	"/sheaf.v1.Doors/StopServing":       {Socket: true, Writes: true},
	"/sheaf.v1.Doors/CreateAppPassword": {Socket: true, Writes: true},
	"/sheaf.v1.Doors/ListAppPasswords":  {Socket: true},
	"/sheaf.v1.Doors/RevokeAppPassword": {Socket: true, Writes: true},

	"/sheaf.v1.Peers/ListPeers":  {},
	"/sheaf.v1.Peers/SetReach":   {Socket: true, Writes: true},
	"/sheaf.v1.Peers/Invite":     {Socket: true, Writes: true},
	"/sheaf.v1.Peers/WaitInvite": {Socket: true, Writes: true},
	"/sheaf.v1.Peers/Join":       {Socket: true, Writes: true},
	"/sheaf.v1.Peers/AcceptJoin": {Socket: true, Writes: true},

	// Any path of this machine is a place.
	"/sheaf.v1.Places/List":   {Socket: true},
	"/sheaf.v1.Places/Read":   {Socket: true},
	"/sheaf.v1.Places/Copy":   {Socket: true, Writes: true},
	"/sheaf.v1.Places/Move":   {Socket: true, Writes: true},
	"/sheaf.v1.Places/Remove": {Socket: true, Writes: true},
	"/sheaf.v1.Places/Check":  {Socket: true},

	// So it is with both places of a rule.
	"/sheaf.v1.Rules/Add":       {Socket: true, Writes: true},
	"/sheaf.v1.Rules/List":      {Socket: true},
	"/sheaf.v1.Rules/Run":       {Socket: true, Writes: true},
	"/sheaf.v1.Rules/Preview":   {Socket: true, Writes: true},
	"/sheaf.v1.Rules/Pause":     {Socket: true, Writes: true},
	"/sheaf.v1.Rules/Resume":    {Socket: true, Writes: true},
	"/sheaf.v1.Rules/Edit":      {Socket: true, Writes: true},
	"/sheaf.v1.Rules/Remove":    {Socket: true, Writes: true},
	"/sheaf.v1.Rules/Explain":   {Socket: true},
	"/sheaf.v1.Rules/Conflicts": {Socket: true},
	"/sheaf.v1.Rules/Dismiss":   {Socket: true, Writes: true},
	"/sheaf.v1.Rules/Accept":    {Socket: true, Writes: true},
	"/sheaf.v1.Rules/Ignored":   {Socket: true},

	"/sheaf.v1.Rules/ConvertIgnore": {Socket: true},

	"/sheaf.v1.Folders/Add":           {Socket: true, Writes: true},
	"/sheaf.v1.Folders/List":          {Socket: true},
	"/sheaf.v1.Folders/Remove":        {Socket: true, Writes: true},
	"/sheaf.v1.Folders/ReadSyncthing": {Socket: true},

	"/sheaf.v1.Events/Watch": {Paths: func(proto.Message) []string { return nil }}, // who is of a folder hears of what is in it

	// They say who is let in, and tell paths of this machine.
	"/sheaf.v1.Settings/List": {Socket: true},
	"/sheaf.v1.Settings/Set":  {Socket: true, Writes: true},

	"/sheaf.v1.Tokens/Create": {Socket: true, Writes: true},
	"/sheaf.v1.Tokens/List":   {Socket: true},
	"/sheaf.v1.Tokens/Revoke": {Socket: true, Writes: true},
}
