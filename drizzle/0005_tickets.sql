CREATE TABLE "chat"."tickets" (
	"digest" text PRIMARY KEY NOT NULL,
	"user_id" text NOT NULL,
	"tier" text NOT NULL,
	"purpose" text NOT NULL,
	"expires_at" timestamp (3) with time zone NOT NULL
);
--> statement-breakpoint
ALTER TABLE "chat"."tickets" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE INDEX "tickets_by_expiry" ON "chat"."tickets" USING btree ("expires_at");--> statement-breakpoint
CREATE INDEX "generations_by_message_id" ON "chat"."generations" USING btree ("message_id");--> statement-breakpoint
CREATE POLICY "tickets_caller" ON "chat"."tickets" AS PERMISSIVE FOR ALL TO "chat_caller" USING (user_id = nullif(current_setting('app.current_user_id', true), '')) WITH CHECK (user_id = nullif(current_setting('app.current_user_id', true), ''));--> statement-breakpoint
CREATE POLICY "tickets_system" ON "chat"."tickets" AS PERMISSIVE FOR ALL TO "chat_system" USING (true) WITH CHECK (true);--> statement-breakpoint
ALTER TABLE "chat"."tickets" FORCE ROW LEVEL SECURITY;--> statement-breakpoint
GRANT SELECT, INSERT ON "chat"."tickets" TO "chat_caller";--> statement-breakpoint
GRANT SELECT, INSERT, UPDATE, DELETE ON "chat"."tickets" TO "chat_system";
