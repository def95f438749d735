package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/wire"
)

// streams are what a command reads and writes: results to out, logs and errors
// to err.
type streams struct {
	in       *os.File
	out, err io.Writer
}

// command is what every command has: the streams and the flags common to all.
type command struct {
	streams
	tty      terminals
	connect  connector
	json     bool
	logLevel slog.Level
}

// run is the program: it runs the command that args name and returns the exit
// code. An error is printed here, once.
func run(ctx context.Context, args []string, s streams) int {
	c := &command{streams: s, tty: terminalsOf(s), connect: overHTTPS}
	return c.run(ctx, args)
}

func (c *command) run(ctx context.Context, args []string) int {
	root := c.root()
	root.SetArgs(args)
	root.SetIn(c.in)
	root.SetOut(c.out)
	root.SetErr(c.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	c.printError(err)
	var exit *exitError
	if errors.As(err, &exit) {
		return exit.code
	}
	outcome, known := homeward.Table[homeward.KindOf(err)]
	if !known {
		outcome = homeward.Table[homeward.Internal]
	}
	return outcome.Exit
}

func (c *command) root() *cobra.Command {
	var version bool
	root := &cobra.Command{
		Use:           "homeward",
		Short:         "Disaster recovery that also knows the way home",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if version {
				return c.printVersion()
			}
			return cmd.Help()
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return homeward.Errorf("read flags", homeward.Invalid, cmd.CommandPath(), "see '"+cmd.CommandPath()+" --help'", "%w", err)
	})
	root.Flags().BoolVar(&version, "version", false, "print the version")
	root.PersistentFlags().BoolVar(&c.json, "json", false, "print results, errors and logs as JSON")
	root.PersistentFlags().TextVar(&c.logLevel, "log-level", slog.LevelInfo, "least `level` of logs: DEBUG, INFO, WARN or ERROR")
	root.AddCommand(
		c.vault(), c.agent(), c.processServer(), c.masterTarget(), c.configurationServer(),
		c.delta(), c.pki(), c.demo(), c.workload(), c.version(), exitCodes(),
	)
	root.AddCommand(c.operatorCommands()...)
	root.SetHelpCommand(help(root))
	return root
}

// help is cobra's own, but for a topic that does not exist: that is an error.
func help(root *cobra.Command) *cobra.Command {
	return &cobra.Command{Use: "help [COMMAND]", Short: "Help about any command",
		RunE: func(_ *cobra.Command, args []string) error {
			about, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return homeward.Errorf("read arguments", homeward.Invalid, "homeward help", "see 'homeward --help'", "no such command: %q", strings.Join(args, " "))
			}
			about.InitDefaultHelpFlag() // else the flags it lists lack --help
			return about.Help()
		}}
}

// arguments demands exactly n arguments.
func arguments(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		remedy := "see '" + cmd.CommandPath() + " --help'"
		if cmd.HasSubCommands() {
			cmd.SuggestionsMinimumDistance = 2 // letters that may be wrong
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				remedy = "perhaps '" + cmd.CommandPath() + " " + strings.Join(near, "' or '"+cmd.CommandPath()+" ") + "'; " + remedy
			}
			return homeward.Errorf("read arguments", homeward.Invalid, cmd.CommandPath(), remedy, "no such command: %q", strings.Join(args, " "))
		}
		return homeward.Errorf("read arguments", homeward.Invalid, cmd.CommandPath(), remedy, "%d arguments given, %d expected", len(args), n)
	}
}

// group is a command that only has others below it.
func group(use, short string, below ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: use, Short: short, Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	g.AddCommand(below...)
	return g
}

// print writes a result: v as JSON with --json, else the line.
func (c *command) print(v any, format string, args ...any) error {
	if c.json {
		return c.printJSON(v)
	}
	_, err := fmt.Fprintf(c.out, format+"\n", args...)
	return err
}

// printError writes message and remedy; with --json the problem document that a
// role would answer over HTTP.
func (c *command) printError(err error) {
	if c.json {
		wire.WriteProblem(&bodyWriter{w: c.err}, err)
		return
	}
	remedy := homeward.RemedyOf(err)
	text := err.Error()
	if remedy != "" {
		text = strings.Replace(text, " ("+remedy+")", "", 1) + "\nwhat to do: " + remedy
	}
	fmt.Fprintf(c.err, "homeward: %s\n", text) //nolint:errcheck // there is nowhere else to say it
}

// bodyWriter keeps only the body of an HTTP answer.
type bodyWriter struct {
	w      io.Writer
	header http.Header
}

func (b *bodyWriter) Header() http.Header {
	if b.header == nil {
		b.header = http.Header{}
	}
	return b.header
}
func (b *bodyWriter) Write(p []byte) (int, error) { return b.w.Write(p) }
func (b *bodyWriter) WriteHeader(int)             {}

func (c *command) logger() *slog.Logger {
	o := &slog.HandlerOptions{Level: c.logLevel}
	if c.json {
		return slog.New(slog.NewJSONHandler(c.err, o))
	}
	return slog.New(slog.NewTextHandler(c.err, o))
}
