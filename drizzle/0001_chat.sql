CREATE SCHEMA IF NOT EXISTS "chat";
--> statement-breakpoint
CREATE TABLE "chat"."conversations" (
	"id" uuid PRIMARY KEY NOT NULL,
	"user_id" text NOT NULL,
	"title" text NOT NULL,
	"title_source" text NOT NULL,
	"context_type" text NOT NULL,
	"context_data" jsonb NOT NULL,
	"status" text DEFAULT 'active' NOT NULL,
	"metadata" jsonb NOT NULL,
	"model" text,
	"current_message_id" uuid,
	"message_count" integer DEFAULT 0 NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"last_message_at" timestamp (3) with time zone,
	"activity_at" timestamp (3) with time zone GENERATED ALWAYS AS (coalesce(last_message_at, created_at)) STORED NOT NULL,
	CONSTRAINT "conversations_title_source" CHECK (title_source in ('default', 'auto', 'user')),
	CONSTRAINT "conversations_context_type" CHECK (context_type in ('general', 'assessment', 'career_guidance')),
	CONSTRAINT "conversations_status" CHECK (status in ('active', 'archived', 'deleted'))
);
--> statement-breakpoint
ALTER TABLE "chat"."conversations" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "chat"."generations" (
	"id" uuid PRIMARY KEY NOT NULL,
	"conversation_id" uuid NOT NULL,
	"message_id" uuid NOT NULL,
	"user_id" text NOT NULL,
	"status" text NOT NULL,
	"model" text NOT NULL,
	"upstream_id" text,
	"last_seq" bigint,
	"error_code" text,
	"started_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"settled_at" timestamp (3) with time zone,
	CONSTRAINT "generations_status" CHECK (status in ('running', 'complete', 'stopped', 'failed', 'interrupted'))
);
--> statement-breakpoint
ALTER TABLE "chat"."generations" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "chat"."messages" (
	"conversation_id" uuid NOT NULL,
	"id" uuid NOT NULL,
	"user_id" text NOT NULL,
	"parent_message_id" uuid,
	"sender_type" text NOT NULL,
	"sender_id" text NOT NULL,
	"content" text NOT NULL,
	"content_type" text NOT NULL,
	"status" text NOT NULL,
	"metadata" jsonb NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "messages_conversation_id_id_pk" PRIMARY KEY("conversation_id","id"),
	CONSTRAINT "messages_sender_type" CHECK (sender_type in ('user', 'assistant', 'system')),
	CONSTRAINT "messages_content_type" CHECK (content_type in ('text', 'image', 'file')),
	CONSTRAINT "messages_status" CHECK (status in ('complete', 'streaming', 'stopped', 'failed', 'interrupted'))
);
--> statement-breakpoint
ALTER TABLE "chat"."messages" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "chat"."usage_tracking" (
	"id" uuid PRIMARY KEY NOT NULL,
	"user_id" text NOT NULL,
	"conversation_id" uuid NOT NULL,
	"message_id" uuid NOT NULL,
	"generation_id" uuid NOT NULL,
	"model" text NOT NULL,
	"prompt_tokens" integer NOT NULL,
	"completion_tokens" integer NOT NULL,
	"total_tokens" integer NOT NULL,
	"cost" numeric,
	"is_free_model" boolean NOT NULL,
	"source" text NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "usage_source" CHECK (source in ('reported', 'estimated', 'reconciled'))
);
--> statement-breakpoint
ALTER TABLE "chat"."usage_tracking" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "chat"."generations" ADD CONSTRAINT "generations_message_fk" FOREIGN KEY ("conversation_id","message_id") REFERENCES "chat"."messages"("conversation_id","id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "chat"."messages" ADD CONSTRAINT "messages_conversation_fk" FOREIGN KEY ("conversation_id") REFERENCES "chat"."conversations"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "chat"."messages" ADD CONSTRAINT "messages_parent_fk" FOREIGN KEY ("conversation_id","parent_message_id") REFERENCES "chat"."messages"("conversation_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "conversations_by_activity" ON "chat"."conversations" USING btree ("user_id","status","activity_at" DESC NULLS FIRST,"id" DESC NULLS FIRST);--> statement-breakpoint
CREATE UNIQUE INDEX "generations_one_running" ON "chat"."generations" USING btree ("conversation_id") WHERE status = 'running';--> statement-breakpoint
CREATE INDEX "generations_running_by_user" ON "chat"."generations" USING btree ("user_id") WHERE status = 'running';--> statement-breakpoint
CREATE INDEX "generations_by_message" ON "chat"."generations" USING btree ("conversation_id","message_id");--> statement-breakpoint
CREATE INDEX "messages_by_parent" ON "chat"."messages" USING btree ("conversation_id","parent_message_id","id");--> statement-breakpoint
CREATE INDEX "usage_by_message" ON "chat"."usage_tracking" USING btree ("conversation_id","message_id");--> statement-breakpoint
CREATE INDEX "usage_by_user" ON "chat"."usage_tracking" USING btree ("user_id","created_at");--> statement-breakpoint
CREATE POLICY "conversations_caller" ON "chat"."conversations" AS PERMISSIVE FOR ALL TO "chat_caller" USING (user_id = nullif(current_setting('app.current_user_id', true), '')) WITH CHECK (user_id = nullif(current_setting('app.current_user_id', true), ''));--> statement-breakpoint
CREATE POLICY "conversations_system" ON "chat"."conversations" AS PERMISSIVE FOR ALL TO "chat_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "generations_caller" ON "chat"."generations" AS PERMISSIVE FOR ALL TO "chat_caller" USING (user_id = nullif(current_setting('app.current_user_id', true), '')) WITH CHECK (user_id = nullif(current_setting('app.current_user_id', true), ''));--> statement-breakpoint
CREATE POLICY "generations_system" ON "chat"."generations" AS PERMISSIVE FOR ALL TO "chat_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "messages_caller" ON "chat"."messages" AS PERMISSIVE FOR ALL TO "chat_caller" USING (user_id = nullif(current_setting('app.current_user_id', true), '')) WITH CHECK (user_id = nullif(current_setting('app.current_user_id', true), ''));--> statement-breakpoint
CREATE POLICY "messages_system" ON "chat"."messages" AS PERMISSIVE FOR ALL TO "chat_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "usage_tracking_caller" ON "chat"."usage_tracking" AS PERMISSIVE FOR ALL TO "chat_caller" USING (user_id = nullif(current_setting('app.current_user_id', true), '')) WITH CHECK (user_id = nullif(current_setting('app.current_user_id', true), ''));--> statement-breakpoint
CREATE POLICY "usage_tracking_system" ON "chat"."usage_tracking" AS PERMISSIVE FOR ALL TO "chat_system" USING (true) WITH CHECK (true);