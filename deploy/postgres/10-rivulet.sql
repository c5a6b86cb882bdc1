-- The service's login and its database, made once, by the superuser of an empty cluster. No superuser and no
-- BYPASSRLS: row level security holds for it too. CREATEROLE is for the first migration, which makes the roles
-- chat_caller and chat_system and grants them to this login.
--
-- compose.yaml runs it at the first start. By hand, against any PostgreSQL from 15 on (psql from 14 on):
--   RIVULET_DB_PASSWORD=… psql -X -v ON_ERROR_STOP=1 -h <host> -U postgres -f deploy/postgres/10-rivulet.sql
\getenv password RIVULET_DB_PASSWORD

create role rivulet login createrole nosuperuser nobypassrls password :'password';
create database rivulet owner rivulet encoding 'UTF8' template template0;
revoke all on database rivulet from public;
