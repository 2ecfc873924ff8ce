//! What every verb works with.

use anyhow::Result;

use crate::paths::Paths;
use crate::tools::Toolbox;

/// The workspace and the toolbox.
#[derive(Clone, Debug)]
pub struct Context {
    /// Where things are.
    pub paths: Paths,
    /// The distribution's programs.
    pub tools: Toolbox,
}

impl Context {
    /// Finds the workspace.
    pub fn new() -> Result<Self> {
        let paths = Paths::find()?;
        let tools = Toolbox::new(paths.tools());
        Ok(Self { paths, tools })
    }
}
