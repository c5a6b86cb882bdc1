-- The two roles of the wall. Roles belong to the cluster and advisory locks to one database, so a migration of
-- another database of this cluster may run at this very moment: whoever comes second finds them made.
DO $$
DECLARE
  wanted text;
  attempt int;
  member bool;
  options text := '';
BEGIN
  FOREACH wanted IN ARRAY ARRAY['chat_caller', 'chat_system'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
      BEGIN
        EXECUTE format('CREATE ROLE %I NOLOGIN NOINHERIT NOBYPASSRLS', wanted);
      EXCEPTION WHEN duplicate_object OR unique_violation THEN
        NULL;
      END;
    END IF;

    -- SET ROLE needs a membership; from 16 on it can be had without inheriting the role's rights.
    IF current_setting('server_version_num')::int >= 160000 THEN
      EXECUTE format('SELECT pg_has_role(current_user, %L, ''SET'')', wanted) INTO member;
      options := ' WITH INHERIT FALSE, SET TRUE';
    ELSE
      EXECUTE format('SELECT pg_has_role(current_user, %L, ''MEMBER'')', wanted) INTO member;
    END IF;
    FOR attempt IN 1..20 LOOP
      EXIT WHEN member;
      BEGIN
        EXECUTE format('GRANT %I TO %I%s', wanted, current_user, options);
        member := true;
      EXCEPTION WHEN internal_error OR unique_violation THEN
        PERFORM pg_sleep(0.05); -- "tuple concurrently updated": the twin granted at the same moment
      END;
    END LOOP;
  END LOOP;
END
$$;
