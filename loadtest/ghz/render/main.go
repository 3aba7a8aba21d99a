// Renders a ghz result: reads ghz's JSON, writes ghz's page beside it, prints ghz's summary.
//
// ghz writes one format a run; this gives the others of the same run. With -all-ok it fails when any call failed.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/bojand/ghz/printer"
	"github.com/bojand/ghz/runner"
)

// No browser opens a page with the details of a million calls; the figures above them are of all calls.
const detailsOnPage = 10_000

func main() {
	allOK := flag.Bool("all-ok", false, "fail when a call failed")
	flag.Parse()
	if err := render(flag.Arg(0), *allOK); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func render(path string, allOK bool) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var report runner.Report
	if err := json.Unmarshal(text, &report); err != nil {
		return fmt.Errorf("%s is not a ghz result: %w", path, err)
	}
	if err := (&printer.ReportPrinter{Report: &report, Out: os.Stdout}).Print("summary"); err != nil {
		return err
	}
	report.Details = report.Details[:min(len(report.Details), detailsOnPage)]
	page, err := os.Create(strings.TrimSuffix(path, ".json") + ".html")
	if err != nil {
		return err
	}
	if err := (&printer.ReportPrinter{Report: &report, Out: page}).Print("html"); err != nil {
		return err
	}
	if err := page.Close(); err != nil {
		return err
	}
	failed := report.Count - uint64(report.StatusCodeDist["OK"])
	if allOK && (failed > 0 || report.Count == 0) {
		return fmt.Errorf("%d of %d calls failed: %v", failed, report.Count, report.StatusCodeDist)
	}
	return nil
}
