-- What drizzle cannot say: FORCE (without it a table's owner sees every row), the grants, and the one pair of
-- tables that name each other.
ALTER TABLE "chat"."conversations" FORCE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "chat"."messages" FORCE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "chat"."generations" FORCE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "chat"."usage_tracking" FORCE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "chat"."conversations" ADD CONSTRAINT "conversations_current_message_fk"
  FOREIGN KEY ("id", "current_message_id") REFERENCES "chat"."messages" ("conversation_id", "id");--> statement-breakpoint
GRANT USAGE ON SCHEMA "chat" TO "chat_caller", "chat_system";--> statement-breakpoint
GRANT SELECT, INSERT, UPDATE ON "chat"."conversations", "chat"."messages", "chat"."generations" TO "chat_caller";--> statement-breakpoint
GRANT SELECT, INSERT ON "chat"."usage_tracking" TO "chat_caller";--> statement-breakpoint
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "chat" TO "chat_system";--> statement-breakpoint
ALTER DEFAULT PRIVILEGES IN SCHEMA "chat" GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO "chat_system";
