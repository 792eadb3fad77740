//! How the CLI finds and authenticates to the host: the host writes its URL and an API key into its state folder.

/// Default name of the state folder, in the folder where the host runs.
pub const STATE_FOLDER: &str = ".bellwether";
/// File in it with the URL of the host's API. The host writes it last, so the key exists when this file does.
pub const HOST_URL: &str = "host";
/// File in it with an API key of scope `admin`. Only the owner of the file can read it.
pub const ADMIN_KEY: &str = "admin-key";
