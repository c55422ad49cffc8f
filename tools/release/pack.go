package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/apk"
	_ "github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

// A file is one of an archive.
type file struct {
	body []byte
	mode os.FileMode
}

// pack makes all that is made of one program.
func (r *release) pack(t target, bin string, help map[string][]byte) error {
	all := map[string]file{}
	for name, body := range help {
		all[name] = file{body, 0o644}
	}
	for _, name := range []string{"README.md", "LICENSE"} {
		b, err := os.ReadFile(filepath.Join(r.dir, name))
		if err != nil {
			return err
		}
		all[name] = file{b, 0o644}
	}
	b, err := os.ReadFile(bin)
	if err != nil {
		return err
	}
	all[t.exe()] = file{b, 0o755}
	bom, err := sbom(bin, r.version, r.when)
	if err != nil {
		return err
	}
	all["sbom.cdx.json"] = file{bom, 0o644}
	base := fmt.Sprintf("sheaf-%s-%s-%s", r.version, t.os, t.arch)
	if err := os.WriteFile(filepath.Join(r.out, base+".cdx.json"), bom, 0o644); err != nil {
		return err
	}
	write, ext := r.tarball, ".tar.gz"
	if t.os == "windows" {
		write, ext = r.zip, ".zip"
	}
	if err := r.create(base+ext, func(w io.Writer) error { return write(w, base, all) }); err != nil {
		return err
	}
	if t.os != "linux" {
		return nil
	}
	if err := r.image(t, all); err != nil {
		return fmt.Errorf("image: %w", err)
	}
	for _, format := range []string{"deb", "rpm", "apk"} {
		if err := r.packageOf(format, t, bin, all); err != nil {
			return fmt.Errorf("%s: %w", format, err)
		}
	}
	return nil
}

//go:embed Dockerfile
var dockerfile []byte

// image puts what an image for containers is made of into a folder of its own. Who makes it, and with what, is left to users.
func (r *release) image(t target, all map[string]file) error {
	dir := filepath.Join(r.out, "image")
	to := map[string]file{
		"Dockerfile":                           {dockerfile, 0o644},
		filepath.Join(t.arch, "usr/bin/sheaf"): all[t.exe()],
		filepath.Join(t.arch, "usr/share/doc/sheaf/copyright"): all["LICENSE"],
	}
	for name, f := range to {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, f.body, f.mode); err != nil {
			return err
		}
		if err := os.Chtimes(path, r.when, r.when); err != nil {
			return err
		}
	}
	return nil
}

// create makes a file of the release.
func (r *release) create(name string, write func(io.Writer) error) error {
	f, err := os.Create(filepath.Join(r.out, name))
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// tarball writes an archive in which nothing depends on who made it, or when.
func (r *release) tarball(w io.Writer, base string, all map[string]file) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		f := all[name]
		h := &tar.Header{
			Name: base + "/" + name, Mode: int64(f.mode), Size: int64(len(f.body)), ModTime: r.when, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR,
		}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write(f.body); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close())
}

func (r *release) zip(w io.Writer, base string, all map[string]file) error {
	z := zip.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		h := &zip.FileHeader{Name: base + "/" + name, Method: zip.Deflate, Modified: r.when}
		h.SetMode(all[name].mode)
		f, err := z.CreateHeader(h)
		if err != nil {
			return err
		}
		if _, err := f.Write(all[name].body); err != nil {
			return err
		}
	}
	return z.Close()
}

// packageOf makes a package of a distribution.
func (r *release) packageOf(format string, t target, bin string, all map[string]file) error {
	stage := filepath.Join(r.work, format+"-"+t.arch)
	var contents files.Contents
	add := func(dst string, body []byte, mode os.FileMode) error {
		src := filepath.Join(stage, filepath.FromSlash(dst))
		if err := os.MkdirAll(filepath.Dir(src), 0o755); err != nil {
			return err
		}
		contents = append(contents, &files.Content{
			Source: src, Destination: dst, FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: mode, MTime: r.when},
		})
		return os.WriteFile(src, body, mode)
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		body, dst := all[name].body, ""
		switch folder, file := filepath.Split(name); {
		case folder == "man/":
			var b bytes.Buffer
			z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
			if err != nil {
				return err
			}
			_, err = z.Write(body)
			if err := errors.Join(err, z.Close()); err != nil {
				return err
			}
			body, dst = b.Bytes(), "/usr/share/man/man1/"+file+".gz"
		case file == "sheaf.bash":
			dst = "/usr/share/bash-completion/completions/sheaf"
		case file == "_sheaf":
			dst = "/usr/share/zsh/vendor-completions/_sheaf"
			if format != "deb" {
				dst = "/usr/share/zsh/site-functions/_sheaf"
			}
		case file == "sheaf.fish":
			dst = "/usr/share/fish/vendor_completions.d/sheaf.fish"
		case name == t.exe():
			dst = "/usr/bin/sheaf"
		case name == "README.md" || name == "LICENSE" || name == "sbom.cdx.json":
			dst = "/usr/share/doc/sheaf/" + strings.Replace(name, "LICENSE", "copyright", 1)
		default:
			continue
		}
		if err := add(dst, body, all[name].mode); err != nil {
			return err
		}
	}
	version := r.version
	if format == "apk" { // which knows no hashes in versions
		version, _, _ = strings.Cut(version, "-")
	}
	info := nfpm.WithDefaults(&nfpm.Info{
		Name: "sheaf", Arch: t.arch, Platform: "linux", Version: version, Release: "1", Section: "utils", Priority: "optional",
		Maintainer: "The sheaf authors <maintainers@users.noreply.example>", License: "Apache-2.0", MTime: r.when,
		Description: "Encrypted, deduplicated drive that you can mount\nOne encrypted tree of files, kept as chunks on this machine and at any providers.",
		Overridables: nfpm.Overridables{
			Contents: contents, Depends: []string{"fuse3"},
			RPM: nfpm.RPM{BuildHost: "localhost", Group: "Applications/File", Summary: "Encrypted, deduplicated drive that you can mount"},
		},
	})
	p, err := nfpm.Get(format)
	if err != nil {
		return err
	}
	if err := nfpm.PrepareForPackager(info, format); err != nil {
		return err
	}
	return r.create(p.ConventionalFileName(info), func(w io.Writer) error { return p.Package(info, w) })
}
