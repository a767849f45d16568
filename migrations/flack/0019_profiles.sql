-- As in migrations/users.
-- Profiles: what users show of themselves. Version 1 of the API does not have them.

alter table users
    -- Empty if there is none. Not unique: clients also show the nickname.
    add column display_name text not null default '',
    add column about text not null default '',
    -- The colour, in degrees from 0 to 359.
    add column hue smallint;
