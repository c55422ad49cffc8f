// Package syncthingconf reads which folders the configuration of a Syncthing has (its config.xml, of all versions since 10).
package syncthingconf

import (
	"encoding/xml"
	"errors"
	"fmt"
	"strings"
)

// The limits of what is read.
const (
	MaxText    = 4 << 20 // bytes
	MaxFolders = 1000
)

// ErrConfig is wrapped by errors about a text that is no configuration of Syncthing.
var ErrConfig = errors.New("no configuration of Syncthing")

// A Type is what a device does with a folder.
type Type string

// The types, as Syncthing calls them.
const (
	SendReceive      Type = "sendreceive"
	SendOnly         Type = "sendonly"
	ReceiveOnly      Type = "receiveonly"
	ReceiveEncrypted Type = "receiveencrypted" // has ciphertext under names of ciphertext, and no key
)

// A Folder is one folder as it is configured.
type Folder struct {
	ID     string // names it on all devices
	Label  string // for people; may be ""
	Path   string // on this machine; "~" in front is the home of who runs Syncthing
	Type   Type   // one that is not known stays as it is written
	Paused bool

	Marker     string // the file or folder that says that the folder is there; ".stfolder" unless somebody changed it
	Versioning string // how old contents are kept; "": not at all
}

// Parse returns the folders of a configuration, in their order. It fails with ErrConfig, also where a text is longer than MaxText or has more
// than MaxFolders.
func Parse(text []byte) ([]Folder, error) {
	if len(text) > MaxText {
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrConfig, MaxText)
	}
	var c struct {
		XMLName xml.Name `xml:"configuration"`
		Folders []struct {
			ID         string `xml:"id,attr"`
			Label      string `xml:"label,attr"`
			Path       string `xml:"path,attr"`
			Type       string `xml:"type,attr"`
			Paused     bool   `xml:"paused"`
			Marker     string `xml:"markerName"`
			Versioning struct {
				Type string `xml:"type,attr"`
			} `xml:"versioning"`
		} `xml:"folder"`
	}
	if err := xml.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if len(c.Folders) > MaxFolders {
		return nil, fmt.Errorf("%w: it has more than %d folders", ErrConfig, MaxFolders)
	}
	var all []Folder
	for _, x := range c.Folders {
		f := Folder{ID: x.ID, Label: x.Label, Path: x.Path, Type: Type(strings.ToLower(x.Type)), Paused: x.Paused, Marker: x.Marker, Versioning: x.Versioning.Type}
		switch f.Type {
		case "", "readwrite": // as it was called up to version 0.14
			f.Type = SendReceive
		case "readonly":
			f.Type = SendOnly
		}
		if f.Marker == "" {
			f.Marker = ".stfolder"
		}
		all = append(all, f)
	}
	return all, nil
}
