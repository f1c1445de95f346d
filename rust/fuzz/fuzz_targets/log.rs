//! Events of a binary log as a stranger may send them, without checksums: two bytes of length before each.

#![no_main]

use datajoint_migrate_core::mysql::binlog::{Budget, Cascade, Collector, Habits, Wanted, WantedColumn};
use libfuzzer_sys::fuzz_target;

fn wanted(table: &str) -> Wanted {
    let columns = [
        ("note", "longblob"),
        ("name", "varchar(20)"),
        ("day", "date"),
        ("dose", "decimal(6,2)"),
        ("data", "json"),
    ];
    let columns = columns.map(|(name, column_type)| WantedColumn {
        name: name.into(),
        column_type: column_type.into(),
        charset: None,
    });
    let key = ["name", "day", "dose"].map(str::to_owned);
    Wanted { schema: "lab".into(), table: table.into(), columns: columns.into(), key: key.into() }
}

fuzz_target!(|input: &[u8]| {
    let cascade =
        Cascade { parent: 0, child: 1, columns: vec!["name".into()], on_update: true, on_delete: true };
    let budget = Budget { keys: 100, bytes: 100_000 };
    let tables = vec![wanted("mouse"), wanted("cat")];
    let mut collector = Collector::new(tables, vec![cascade], Habits::default(), budget).expect("valid");
    let mut rest = input;
    while let Some((length, after)) = rest.split_at_checked(2) {
        let length = usize::from(u16::from_le_bytes([length[0], length[1]])).min(after.len());
        let mut event = after[..length].to_vec();
        if let Some(size) = event.get_mut(9..13) {
            size.copy_from_slice(&(length as u32).to_le_bytes());
        }
        if collector.event(&event).is_err() {
            return;
        }
        rest = &after[length..];
    }
    let _ = collector.finish();
});
