//! Where ClickHouse is, and who asks.

use std::fmt;

use ::clickhouse::Client;

/// A server and a database on it.
#[derive(Clone, PartialEq, Eq)]
pub struct Connection {
    /// Base URL of its HTTP interface, such as `http://clickhouse:8123`.
    pub url: String,
    /// The database that holds the tables.
    pub database: String,
    /// The user; `None` for the server's own default.
    pub user: Option<String>,
    /// Their password.
    pub password: Option<String>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({} at {})", self.database, self.url)
    }
}

impl Connection {
    /// A client whose statements run in the database.
    pub(crate) fn client(&self) -> Client {
        self.server().with_database(&self.database)
    }

    /// A client in no particular database.
    pub(crate) fn server(&self) -> Client {
        let mut client = Client::default().with_url(&self.url).with_product_info("aibuyer", env!("CARGO_PKG_VERSION"));
        if let Some(user) = &self.user {
            client = client.with_user(user);
        }
        if let Some(password) = &self.password {
            client = client.with_password(password);
        }
        client
    }
}

/// A name as SQL takes it, whatever it holds.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}
