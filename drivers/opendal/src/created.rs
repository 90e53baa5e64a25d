//! Paths that were made through a driver, to be removed at the end if that is wanted.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The paths, normalized: `/` between parts, none at either end, no `.` and no `..`.
#[derive(Debug, Default)]
pub struct Created(Mutex<BTreeSet<String>>);

/// Brings a path into its one form. `..` cannot lead above the root.
pub fn normalize(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split(['/', '\\']) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

// === impl Created ===

impl Created {
    fn paths(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a path as made. The root itself never is.
    pub fn add(&self, path: &str) {
        let path = normalize(path);
        if !path.is_empty() {
            self.paths().insert(path);
        }
    }

    /// Forgets a path.
    pub fn forget(&self, path: &str) {
        self.paths().remove(&normalize(path));
    }

    /// Forgets a path and everything below it.
    pub fn forget_all(&self, path: &str) {
        let path = normalize(path);
        self.paths().retain(|made| {
            let below = made
                .strip_prefix(&path)
                .is_some_and(|rest| path.is_empty() || rest.is_empty() || rest.starts_with('/'));
            !below
        });
    }

    /// All paths in order.
    pub fn list(&self) -> Vec<String> {
        self.paths().iter().cloned().collect()
    }

    /// Takes all paths out.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.paths()).into_iter().collect()
    }
}

/// Removes paths below `root`, the deepest first, directories with all they hold. Returns what
/// could not be removed. Blocks.
pub fn remove(root: &Path, paths: &[String]) -> Vec<(PathBuf, io::Error)> {
    let mut failures = Vec::new();
    let root = match root.canonicalize() {
        Ok(root) => root,
        Err(error) => return vec![(root.to_owned(), error)],
    };
    for path in paths.iter().rev() {
        let full = root.join(path);
        match remove_one(&root, &full) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => failures.push((full, error)),
            _ => {}
        }
    }
    failures
}

fn remove_one(root: &Path, path: &Path) -> io::Result<()> {
    // A link on the way could lead anywhere.
    let parent = path.parent().unwrap_or(root).canonicalize()?;
    if !parent.starts_with(root) || path == root {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "the path leads out of the root",
        ));
    }
    if std::fs::symlink_metadata(path)?.is_dir() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_form() {
        for (path, normalized) in [
            ("/a//b/", "a/b"),
            ("a\\b", "a/b"),
            ("./a/../b", "b"),
            ("../../etc", "etc"),
            ("/", ""),
        ] {
            assert_eq!(normalize(path), normalized, "{path}");
        }
    }

    #[test]
    fn a_directory_is_forgotten_with_what_is_below() {
        let created = Created::default();
        for path in ["a/b", "a/b/c", "a/bc", "d"] {
            created.add(path);
        }
        created.forget_all("a/b/");
        assert_eq!(created.list(), ["a/bc", "d"]);
        created.forget_all("/");
        assert!(created.list().is_empty());
    }

    #[test]
    fn removal_stays_below_the_root() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("keep"), "x").unwrap();
        let root = tempfile::tempdir().unwrap();
        let inside = root.path().join("made/deep");
        std::fs::create_dir_all(&inside).unwrap();
        std::fs::write(inside.join("file"), "x").unwrap();
        std::fs::write(root.path().join("other"), "x").unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("link")).unwrap();
        let paths = ["gone", "link", "link/keep", "made", "made/deep/file"];
        let failures = remove(root.path(), &paths.map(str::to_owned));
        let failed: Vec<_> = failures.iter().map(|(path, _)| path.clone()).collect();
        assert_eq!(
            failed,
            [root.path().canonicalize().unwrap().join("link/keep")]
        );
        assert!(outside.path().join("keep").exists());
        assert!(!root.path().join("link").exists());
        assert!(!root.path().join("made").exists());
        assert!(root.path().join("other").exists());
    }
}
