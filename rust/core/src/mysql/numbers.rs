//! What the numbers of a server's errors mean: one table, for the engine and for the sessions on the other side.

/// The user, the password, or the account's state.
pub const LOGIN_REFUSED: &[u16] = &[1045, 1698, 1862, 3118, 3955, 4150, 4151];
/// There is a server, and it has no place for us now, or ends what we have.
pub const UNREACHABLE: &[u16] = &[1040, 1053, 1077, 1129, 1130, 1184, 1203, 1927, 4031];
/// A privilege is missing.
pub const DENIED: &[u16] = &[1044, 1142, 1143, 1227, 1370, 1410, 1419];

/// A limit of this account that only the hour lifts. One number stands for those, and for connections at once.
#[must_use]
pub fn is_hourly(number: u16, message: &str) -> bool {
    number == 1226 && !message.contains("'max_user_connections'")
}

/// What an operator can do about an error of this number and message, where that is known.
#[must_use]
pub fn hint(number: u16, message: &str) -> Option<&'static str> {
    Some(match number {
        1226 if is_hourly(number, message) => {
            "this account has done as much as it may within an hour: let an administrator set its MAX_QUERIES_PER_HOUR, MAX_UPDATES_PER_HOUR and MAX_CONNECTIONS_PER_HOUR to 0, or start the same call again in an hour"
        }
        1184 => {
            "the server runs its init_connect for this user first, and that fails: let an administrator mend it (SELECT @@GLOBAL.init_connect), or give this user CONNECTION_ADMIN (MySQL) or CONNECTION ADMIN (MariaDB), for whom it is not run"
        }
        1203 | 1226 => {
            "this account may have no more connections: give fewer lanes (a run takes up to three times as many connections as lanes, and eight), or let an administrator raise its MAX_USER_CONNECTIONS"
        }
        3032 => "let an administrator run: SET GLOBAL offline_mode = OFF",
        number if UNREACHABLE.contains(&number) => {
            "the server takes no further connection now: when it does, start the same call again"
        }
        number if DENIED.contains(&number) => {
            "grant the privilege that the message names to this user, make the role active that has it (SET DEFAULT ROLE), or connect as another"
        }
        1205 | 1213 => {
            "another session holds locks on these rows or tables; start the same call again when it is done"
        }
        1153 | 1301 => {
            "raise max_allowed_packet on that server above the size of the largest row, then start the same call again"
        }
        1290 | 1792 | 1836 => {
            "the server takes no writes: set read_only and super_read_only OFF, or connect to the one that it replicates"
        }
        1021 | 1114 => "the disk of that server is full: make room, then start the same call again",
        _ => return None,
    })
}
