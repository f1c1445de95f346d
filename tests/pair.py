"""Two small 0.14.6-shaped schemas that refer to each other, with every kind of program in them."""

from __future__ import annotations

from servers import Server

TABLES = """CREATE DATABASE `{a}`; CREATE DATABASE `{b}`;
CREATE TABLE `{a}`.mouse (mouse_id int unsigned NOT NULL COMMENT 'the id', parent int unsigned,
 note varchar(30) NOT NULL DEFAULT '', doubled int AS (mouse_id * 2) VIRTUAL,
 PRIMARY KEY (mouse_id), CONSTRAINT whose CHECK (note <> 'bad'),
 FOREIGN KEY (parent) REFERENCES `{a}`.mouse (mouse_id)) COMMENT 'mice';
CREATE TABLE `{b}`.`__scan` (mouse_id int unsigned NOT NULL, scan int NOT NULL, data longblob,
 PRIMARY KEY (mouse_id, scan), FOREIGN KEY (mouse_id) REFERENCES `{a}`.mouse (mouse_id)
 ON UPDATE CASCADE);
CREATE TABLE `{a}`.best (mouse_id int unsigned NOT NULL, scan int NOT NULL, changes int NOT NULL,
 PRIMARY KEY (mouse_id), FOREIGN KEY (mouse_id, scan) REFERENCES `{b}`.`__scan` (mouse_id, scan));
CREATE TABLE `{a}`.`~log` (id int unsigned NOT NULL AUTO_INCREMENT, event varchar(255) NOT NULL,
 PRIMARY KEY (id));
CREATE TABLE `{b}`.`~jobs` (table_name varchar(255) NOT NULL, key_hash char(32) NOT NULL,
 status enum('reserved','error','ignore') NOT NULL, PRIMARY KEY (table_name, key_hash));
INSERT INTO `{a}`.mouse (mouse_id, parent, note) VALUES (1, NULL, 'äö'), (2, 1, ''), (3, 1, 'x');
INSERT INTO `{b}`.`__scan` VALUES (1, 1, x'6d596d00'), (2, 1, NULL);
INSERT INTO `{a}`.best VALUES (1, 1, 0);"""

PROGRAMS = """DELIMITER //
CREATE FUNCTION `{a}`.twice(x int) RETURNS int DETERMINISTIC RETURN x * 2//
CREATE PROCEDURE `{a}`.count_mice() BEGIN SELECT COUNT(*) FROM `{a}`.mouse; END//
CREATE VIEW `{a}`.old_mice AS SELECT mouse_id, `{a}`.twice(mouse_id) AS t FROM `{a}`.mouse//
CREATE VIEW `{a}`.a_first AS SELECT mouse_id, '{a}.mouse' AS words FROM `{a}`.old_mice//
CREATE TRIGGER `{a}`.count_it AFTER UPDATE ON `{a}`.mouse FOR EACH ROW
 UPDATE `{a}`.best SET changes = changes + 1 WHERE mouse_id = NEW.mouse_id//
CREATE TRIGGER `{b}`.count_scans BEFORE UPDATE ON `{b}`.`__scan` FOR EACH ROW
 UPDATE `{a}`.best SET changes = changes + 10 WHERE mouse_id = NEW.mouse_id//
CREATE EVENT `{b}`.nightly ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01 00:00:00' DISABLE
 DO DELETE FROM `{b}`.`~jobs` WHERE status = 'error'//
DELIMITER ;"""


def make_pair(server: Server, a: str, b: str) -> None:
    """Make both schemas; `fresh` must have dropped them."""
    server.sql(TABLES.format(a=a, b=b))
    server.sql(PROGRAMS.format(a=a, b=b))
