package syncthingconf_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	conf "github.com/sheaf-drive/sheaf/sync/remote/syncthingconf"
)

// As Syncthing 1.27 and 0.11 write them, shortened.
const text = `<configuration version="37">
    <folder id="abcd-1234" label="Photos" path="~/Photos" type="sendreceive" rescanIntervalS="3600" fsWatcherEnabled="true">
        <filesystemType>basic</filesystemType>
        <device id="P56IOI7-MZJNU2Y-IQGDREY-DM2MGTI-MGL3BXN-PQ6W5BM-TBBZ4TJ-XZWICQ2" introducedBy=""><encryptionPassword></encryptionPassword></device>
        <versioning type="staggered"><param key="maxAge" val="31536000"></param></versioning>
        <paused>true</paused>
        <markerName>.here</markerName>
    </folder>
    <folder id="x" path="/srv/x" type="receiveonly"><versioning></versioning></folder>
    <folder id="old" path="/srv/old" ro="true" type="readonly"></folder>
    <folder id="enc" label="e &amp; f" path="/srv/e" type="receiveencrypted"></folder>
    <defaults><folder id="" label="" path="~" type="sendreceive"></folder></defaults>
    <gui enabled="true"><apikey>secret</apikey></gui>
</configuration>`

func TestParse(t *testing.T) {
	got, err := conf.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []conf.Folder{
		{ID: "abcd-1234", Label: "Photos", Path: "~/Photos", Type: conf.SendReceive, Paused: true, Marker: ".here", Versioning: "staggered"},
		{ID: "x", Path: "/srv/x", Type: conf.ReceiveOnly, Marker: ".stfolder"},
		{ID: "old", Path: "/srv/old", Type: conf.SendOnly, Marker: ".stfolder"},
		{ID: "enc", Label: "e & f", Path: "/srv/e", Type: conf.ReceiveEncrypted, Marker: ".stfolder"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

func TestParse_RefusesWhatIsNoConfiguration(t *testing.T) {
	for _, bad := range []string{
		"", "[remote]\ntype = s3\n", "<html></html>", text[:200], strings.Repeat(" ", conf.MaxText) + text,
		"<configuration>" + strings.Repeat(`<folder id="a"/>`, conf.MaxFolders+1) + "</configuration>",
		`<!DOCTYPE x [<!ENTITY a "b">]><configuration><folder id="&a;"/></configuration>`,
	} {
		if _, err := conf.Parse([]byte(bad)); !errors.Is(err, conf.ErrConfig) {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
}
