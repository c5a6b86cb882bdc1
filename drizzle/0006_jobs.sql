CREATE TABLE "chat"."jobs" (
	"id" uuid PRIMARY KEY NOT NULL,
	"kind" text NOT NULL,
	"key" text NOT NULL,
	"user_id" text,
	"payload" jsonb NOT NULL,
	"run_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"attempts" integer DEFAULT 0 NOT NULL,
	"leased_until" timestamp (3) with time zone,
	"last_error" text,
	"status" text DEFAULT 'queued' NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "jobs_status" CHECK (status in ('queued', 'dead'))
);
--> statement-breakpoint
ALTER TABLE "chat"."jobs" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "chat"."generations" ADD COLUMN "prompt_tokens_estimate" integer;--> statement-breakpoint
CREATE UNIQUE INDEX "jobs_one_queued" ON "chat"."jobs" USING btree ("kind","key") WHERE status = 'queued';--> statement-breakpoint
CREATE INDEX "jobs_due" ON "chat"."jobs" USING btree ("run_at") WHERE status = 'queued';--> statement-breakpoint
CREATE POLICY "jobs_caller" ON "chat"."jobs" AS PERMISSIVE FOR INSERT TO "chat_caller" WITH CHECK (user_id = nullif(current_setting('app.current_user_id', true), ''));--> statement-breakpoint
CREATE POLICY "jobs_system" ON "chat"."jobs" AS PERMISSIVE FOR ALL TO "chat_system" USING (true) WITH CHECK (true);--> statement-breakpoint
ALTER TABLE "chat"."jobs" FORCE ROW LEVEL SECURITY;--> statement-breakpoint
GRANT INSERT ON "chat"."jobs" TO "chat_caller";--> statement-breakpoint
GRANT SELECT, INSERT, UPDATE, DELETE ON "chat"."jobs" TO "chat_system";
