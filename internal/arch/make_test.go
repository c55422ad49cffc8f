package arch_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Tests that -race is too slow for are skipped there by their names, in all packages, and run without it in packages that are named. One whose package
// is not would run nowhere.
func TestMakefile_WhatRaceSkipsIsRunWithoutIt(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	find := func(expr string) string {
		m := regexp.MustCompile(`(?m)^` + expr + `$`).FindSubmatch(b)
		if m == nil {
			t.Fatalf("the Makefile has no line as %s", expr)
		}
		return string(m[1])
	}
	skipped := regexp.MustCompile(find(`ALONE_TESTS *= *(.*)`))
	run := " " + find(`ALONE_PACKAGES *= *(.*)`) + find(`\t\$\(GO\) test .*-run '\$\(ALONE_TESTS\)'( .*)`) + " "
	name := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	found := 0
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		pkg, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		if pkg != "." {
			pkg = "./" + filepath.ToSlash(pkg)
		}
		for _, m := range name.FindAllSubmatch(src, -1) {
			if !skipped.Match(m[1]) {
				continue
			}
			if found++; !strings.Contains(run, " "+pkg+" ") {
				t.Errorf("%s in %s is skipped with -race, and not run without it", m[1], pkg)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 20 {
		t.Errorf("only %d tests are skipped with -race: the names have changed", found)
	}
}
