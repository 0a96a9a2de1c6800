//! `keevo-cli context` and `keevo-cli shell`.

use clap::{Args, Subcommand};

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  keevo-cli context add dev --endpoints 127.0.0.1:7101 --use
  keevo-cli --endpoints 10.0.0.1:7101,10.0.0.2:7101 --ca ca.crt --api-key-file prod.key context add prod --keyspace orders
  keevo-cli context add ci --endpoints 10.0.0.1:7101 --ca ca.crt --api-key-variable CI_KEEVO_KEY
  keevo-cli context list
  keevo-cli context use prod
  keevo-cli context show --origin                        # what commands work with, and where it comes from
  keevo-cli --context dev context show
  keevo-cli context show prod
  keevo-cli context remove ci

Flags come before variables, variables before the context, and the context before defaults. A context holds where
keys are, never a key; it is kept in keevo/contexts.toml of XDG_CONFIG_HOME, or of ~/.config.";

/// Shown below the help.
pub(crate) const SHELL_EXAMPLES: &str = "\
Examples:
  keevo-cli shell                                        # Tab completes, Ctrl-R searches, exit or Ctrl-D ends it
  keevo-cli --context prod shell
  keevo-cli shell --stop-on-error < setup.keevo          # a command a line, # begins a comment

Within, commands are written without keevo-cli in front; flags of the shell hold for all of them. Quotes hold words
together: 'all as it is', \"with \\\" and \\\\\". Elsewhere a backslash stands for itself, but before a blank, a quote or #.
Lines that begin with a blank, or that look as if they held a secret, are kept in no history.";

/// Commands on contexts; none of them calls a node.
#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// Keep the given --endpoints, --ca, --cert, --cert-key and --api-key-file under a name
    Add(Add),
    /// Work with a context from now on
    Use {
        /// Its name
        #[arg(id = "context_name", value_name = "NAME", required_unless_present = "none")]
        name: Option<String>,
        /// Work with no context
        #[arg(long, conflicts_with = "context_name")]
        none: bool,
    },
    /// List the contexts
    List,
    /// Show what commands work with, or what a context holds
    Show {
        /// The context; without it, what flags, variables and the context in use make together
        #[arg(id = "context_name", value_name = "NAME")]
        name: Option<String>,
        /// Also say where each part comes from
        #[arg(long, conflicts_with = "context_name")]
        origin: bool,
    },
    /// Forget a context
    Remove {
        /// Its name
        #[arg(id = "context_name", value_name = "NAME")]
        name: String,
    },
}

/// What to keep.
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Its name, of letters, digits, - _ and .
    pub(crate) name: String,
    /// The keyspace that `kv` commands work in
    #[arg(long, value_name = "NAME")]
    pub(crate) keyspace: Option<String>,
    /// The variable that holds the API key whenever the context is used
    #[arg(long, value_name = "VARIABLE")]
    pub(crate) api_key_variable: Option<String>,
    /// Work with it from now on
    #[arg(long = "use")]
    pub(crate) use_it: bool,
    /// Replace a context of this name
    #[arg(long)]
    pub(crate) replace: bool,
}
