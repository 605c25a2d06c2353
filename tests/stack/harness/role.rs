//! A role of the databases' server that a test makes.

use super::{Stack, psql, try_psql};

/// One that needs its password, `hunter2`, and may do no more than everybody. It can be dropped only after the databases in
/// which it has rights: a test makes it before them.
pub struct Role(pub String);

impl Role {
    pub fn new(test: &str) -> Self {
        let name = format!("r_{test}_{}", std::process::id());
        psql("postgres", &format!("CREATE ROLE {name} LOGIN PASSWORD 'hunter2' IN ROLE password_required"));
        Self(name)
    }

    /// A database of the stack as this role reaches it.
    pub fn url(&self, database: &str) -> String {
        self.url_with("hunter2", database)
    }

    /// The same by some password.
    pub fn url_with(&self, password: &str, database: &str) -> String {
        Stack::get().url_as(&format!("{}:{password}", self.0), database)
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        if let Err(error) = try_psql("postgres", &format!("DROP ROLE {}", self.0)) {
            eprintln!("not removed: {error}");
        }
    }
}
