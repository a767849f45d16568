-- no-transaction
-- For the list of the profiles that are not empty: those of few users among many.
create index concurrently users_with_profile on users (id) where display_name <> '' or about <> '' or hue is not null;
