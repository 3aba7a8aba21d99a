//! Where ClickHouse is, and who asks.

use std::fmt;

use ::clickhouse::Client;

/// Takes 2,048 of the longest keys with every byte escaped, and the largest training profile.
const MAX_QUERY_BYTES: &str = "4194304";

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

    /// A client that reads, on so many threads of the server. Its queries end when their connection closes.
    pub(crate) fn reader(&self, threads: u8) -> Client {
        self.client()
            // A reader whose settings may still be set; only its queries end when the connection closes.
            .with_setting("readonly", "2")
            .with_setting("cancel_http_readonly_queries_on_client_close", "1")
            .with_setting("max_query_size", MAX_QUERY_BYTES)
            .with_setting("max_threads", threads.to_string())
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
