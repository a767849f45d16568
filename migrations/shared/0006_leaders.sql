-- Of many instances one does a work, the one that holds its advisory lock (`flack_common::database::leader`). For operators: which
-- one that is, by the name that its connections have; null while nobody does it.
create function leader_of(work text, subject text) returns text
language sql stable as $$
    select activity.application_name
    from pg_locks as lock
    inner join pg_stat_activity as activity using (pid)
    where lock.locktype = 'advisory' and lock.granted
        and lock.database = (select oid from pg_database where datname = current_database())
        -- Two integers make the key; the view shows them without their sign.
        and lock.objsubid = 2
        and lock.classid = (hashtext(work)::bigint & 4294967295)::oid
        and lock.objid = (hashtext(subject)::bigint & 4294967295)::oid
$$;
